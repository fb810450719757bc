//! The index of a sharded checkpoint: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.

use crate::{Checkpoint, CheckpointError, text};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The largest size of an index, in bytes. An index of 100,000 tensors has about 8 MB.
const MAX_INDEX: u64 = 1 << 26;

/// The largest number of files of a checkpoint. The largest published ones have a few hundred.
const MAX_SHARDS: usize = 4096;

/// The files of a checkpoint, and the tensors that they contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    files: Vec<String>,
    /// The file of each tensor.
    tensors: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Json {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Parses the index in `bytes`.
    ///
    /// # Errors
    ///
    /// When `bytes` is not an index, lists no file, or lists a file outside the folder of the index: only
    /// plain file names are accepted, without `/`, `\` or `..`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let text = text::decode(bytes).map_err(|error| error.to_string())?;
        let index: Json = serde_json::from_str(text)
            .map_err(|error| format!("it is not an index of shards: {error}"))?;
        let tensors = index.weight_map;
        let files: BTreeSet<String> = tensors.values().cloned().collect();
        if files.is_empty() {
            return Err("it does not list a file".to_owned());
        }
        if files.len() > MAX_SHARDS {
            return Err(format!(
                "it lists {} files; expected at most {MAX_SHARDS}",
                files.len()
            ));
        }
        if let Some(file) = files.iter().find(|file| !is_file_name(file)) {
            let shown: String = file.chars().take(100).collect();
            return Err(format!(
                "it lists the file {shown:?}; expected the name of a file in the same folder"
            ));
        }
        Ok(Self {
            files: files.into_iter().collect(),
            tensors,
        })
    }

    /// Reads the index in the file `path` and returns the paths of its shards.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not an index (see [`Self::from_bytes`]), and when a shard is
    /// missing, is a link to a file outside the folder, or lacks a tensor (see [`Self::check`]). Links of a
    /// download cache into the `blobs` folder of the same repository are followed.
    pub fn read(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
        let open = |source| CheckpointError::Open {
            path: path.to_path_buf(),
            source,
        };
        let refuse = |what: String| CheckpointError::Unsupported {
            path: path.to_path_buf(),
            what,
        };
        let bytes = bounded(path).map_err(open)?;
        let index = Self::from_bytes(&bytes).map_err(refuse)?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let allowed = Allowed::around(folder).map_err(open)?;
        let mut shards = Vec::with_capacity(index.files.len());
        for file in &index.files {
            let shard = folder.join(file);
            let target = shard
                .canonicalize()
                .map_err(|source| CheckpointError::Open {
                    path: shard.clone(),
                    source,
                })?;
            if !allowed.contains(&target) {
                return Err(refuse(format!(
                    "its file `{file}` is a link to {}, outside the folder; replace the link with the file",
                    target.display()
                )));
            }
            shards.push(shard);
        }
        index.check(path, &shards)?;
        Ok(shards)
    }

    /// Checks that each tensor that the index in the file `path` lists is in the file that it names.
    /// `shards` are the paths of [`Self::files`], in their order.
    ///
    /// # Errors
    ///
    /// When a shard cannot be read or does not contain a tensor.
    pub fn check(&self, path: &Path, shards: &[impl AsRef<Path>]) -> Result<(), CheckpointError> {
        for (file, shard) in self.files.iter().zip(shards) {
            let contents = Checkpoint::open(&[shard])?;
            let mut listed = self.tensors.iter().filter(|(_, other)| *other == file);
            if let Some((name, _)) = listed.find(|(name, _)| contents.get(name).is_none()) {
                let name: String = name.chars().take(200).collect();
                return Err(CheckpointError::Unsupported {
                    path: path.to_path_buf(),
                    what: format!(
                        "it lists tensor `{name}` in {}, but that file does not contain it; fetch both files \
                         again",
                        shard.as_ref().display()
                    ),
                });
            }
        }
        Ok(())
    }

    /// Returns the names of the files, sorted and without duplicates.
    pub fn files(&self) -> &[String] {
        &self.files
    }
}

/// The folders that may contain the shards of an index.
struct Allowed {
    folder: PathBuf,
    /// The repository's folder `blobs`, if the index is in `snapshots/<revision>` of a download cache.
    blobs: Option<PathBuf>,
}

impl Allowed {
    fn around(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let repository = folder
            .ancestors()
            .find(|ancestor| ancestor.file_name().is_some_and(|name| name == "snapshots"))
            .and_then(Path::parent);
        let blobs = repository
            .map(|repository| repository.join("blobs"))
            .and_then(|blobs| blobs.canonicalize().ok());
        Ok(Self { folder, blobs })
    }

    fn contains(&self, target: &Path) -> bool {
        let parent = target.parent();
        parent == Some(&self.folder) || (self.blobs.is_some() && parent == self.blobs.as_deref())
    }
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if !path.metadata()?.is_file() {
        return refuse("expected a file, found a folder or a device");
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_INDEX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_INDEX {
        return refuse("it is larger than an index of shards can be");
    }
    Ok(bytes)
}

/// Returns whether `file` is a plain file name on every system, without a path to another folder.
fn is_file_name(file: &str) -> bool {
    !file.is_empty()
        && file != "."
        && file != ".."
        && file.len() <= 255
        && !file.contains(['/', '\\', ':', '\0'])
        && !file.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn index(files: &[&str]) -> Vec<u8> {
        let names = (0..).map(|number: u32| number.to_string());
        let map: BTreeMap<_, _> = names.zip(files).collect();
        serde_json::to_vec(&serde_json::json!({ "metadata": {}, "weight_map": map })).unwrap()
    }

    /// A safetensors file with scalars of these names.
    fn shard(names: &[&str]) -> Vec<u8> {
        let entries = names.iter().enumerate().map(|(at, name)| {
            format!(
                r#""{name}":{{"dtype":"U8","shape":[],"data_offsets":[{at},{}]}}"#,
                at + 1
            )
        });
        let header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &vec![0; names.len()]].concat()
    }

    #[test]
    fn a_tensor_that_its_file_lacks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors.index.json");
        fs::write(folder.path().join("one"), shard(&["a", "b"])).unwrap();
        fs::write(folder.path().join("two"), shard(&["c"])).unwrap();
        let read = |map: serde_json::Value| {
            fs::write(&path, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
            ShardIndex::read(&path)
        };
        // A file may contain more than the index lists.
        let whole = serde_json::json!({ "a": "one", "c": "two" });
        assert_eq!(read(whole).unwrap().len(), 2);
        for lacking in ["b", "d"] {
            let map = serde_json::json!({ "a": "one", "c": "two", lacking: "two" });
            let error = read(map).unwrap_err().to_string();
            for part in [
                path.to_str().unwrap(),
                &format!("`{lacking}`"),
                "two",
                "does not contain",
            ] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn an_index_has_a_largest_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors.index.json");
        fs::write(folder.path().join("one"), shard(&["a"])).unwrap();
        let mut text = br#"{"weight_map": {"a": "one"}}"#.to_vec();
        text.resize(1 << 26, b' ');
        fs::write(&path, &text).unwrap();
        assert_eq!(ShardIndex::read(&path).unwrap().len(), 1);
        text.push(b' ');
        fs::write(&path, &text).unwrap();
        let error = ShardIndex::read(&path).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("larger than an index"), "{cause}");
    }

    #[test]
    fn each_file_is_listed_once() {
        let index = ShardIndex::from_bytes(&index(&["b.bin", "a.bin", "b.bin"])).unwrap();
        assert_eq!(index.files(), ["a.bin", "b.bin"]);
    }

    // CVE-2022-25882, CVE-2024-27318: paths to files outside the folder.
    #[test]
    fn paths_to_other_folders_are_refused() {
        for file in [
            "..",
            ".",
            "",
            "../a",
            "a/../../b",
            "/etc/passwd",
            "sub/a",
            "./a",
            "..\\a",
            "C:\\a",
            "C:a",
            "a\0b",
            "a\nb",
            "file:///etc/passwd",
            &"a".repeat(256),
        ] {
            let error = ShardIndex::from_bytes(&index(&["a.bin", file])).unwrap_err();
            assert!(error.contains("in the same folder"), "{file:?}: {error}");
        }
    }

    #[test]
    fn files_that_are_not_an_index_are_refused() {
        let many: Vec<String> = (0..=MAX_SHARDS).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (bytes, word) in [
            (b"".to_vec(), "not an index"),
            (b"{}".to_vec(), "weight_map"),
            (b"[1]".to_vec(), "not an index"),
            (
                b"{\"weight_map\": {\"a\": 1}}".to_vec(),
                "expected a string",
            ),
            (b"{\"weight_map\": {}}".to_vec(), "does not list a file"),
            (
                [b"{\"weight_map\": ", &b"[".repeat(100_000)[..]].concat(),
                "not an index",
            ),
            (
                [b"{\"other\": ", &b"[".repeat(1_000_000)[..]].concat(),
                "EOF",
            ),
            (index(&many), "4097 files"),
        ] {
            let error = ShardIndex::from_bytes(&bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_out_of_the_folder_are_refused() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("repo/snapshots/1");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(root.path().join("repo/blobs")).unwrap();
        let shard = shard(&["0", "1", "2"]);
        fs::write(root.path().join("secret"), &shard).unwrap();
        fs::write(root.path().join("repo/blobs/b"), &shard).unwrap();
        fs::write(folder.join("plain"), &shard).unwrap();
        symlink("plain", folder.join("beside")).unwrap();
        symlink("../../blobs/b", folder.join("cached")).unwrap();
        symlink("../../../secret", folder.join("out")).unwrap();
        let path = folder.join("index.json");
        let read = |files: &[&str]| {
            fs::write(&path, index(files)).unwrap();
            ShardIndex::read(&path)
        };
        let shards = read(&["plain", "beside", "cached"]).unwrap();
        assert_eq!(
            shards,
            ["beside", "cached", "plain"].map(|file| folder.join(file))
        );
        let error = read(&["plain", "out"]).unwrap_err().to_string();
        assert!(
            error.contains("`out` is a link to") && error.contains("outside the folder"),
            "{error}"
        );
        let error = read(&["plain", "gone"]).unwrap_err().to_string();
        assert!(error.contains("gone cannot be opened"), "{error}");
        // Outside a cache, `blobs` has no special meaning.
        let other = root.path().join("repo/other");
        fs::create_dir(&other).unwrap();
        symlink("../blobs/b", other.join("cached")).unwrap();
        fs::write(other.join("index.json"), index(&["cached"])).unwrap();
        assert!(ShardIndex::read(&other.join("index.json")).is_err());
    }
}
