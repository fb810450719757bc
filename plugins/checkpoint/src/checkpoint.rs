//! A checkpoint in one or more files.

use crate::{
    CheckpointError, GgufMetadata, StoredTensor, contents::FileContents, gguf, mapped::MappedFile,
    pytorch, safetensors_file,
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The tensors of one or more files, mapped into memory.
pub struct Checkpoint {
    paths: Vec<PathBuf>,
    files: Vec<Arc<MappedFile>>,
    tensors: BTreeMap<String, StoredTensor>,
    gguf: Option<GgufMetadata>,
    ignored: Vec<(String, &'static str)>,
}

/// The mapped files of a checkpoint.
#[derive(Clone)]
pub struct Mapping(Vec<Arc<MappedFile>>);

impl Mapping {
    /// Releases the memory of the files' pages. The system reads them again when they are needed, from its
    /// cache if they are still there. Call it when the weights are not needed for a while.
    pub fn release(&self) {
        self.0.iter().for_each(|file| file.release());
    }
}

impl Checkpoint {
    /// Maps `paths` and reads their contents. The first bytes of each file decide its format.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened, has an unsupported format, is damaged, or contains a tensor that
    /// another file contains too.
    pub fn open(paths: &[impl AsRef<Path>]) -> Result<Self, CheckpointError> {
        if paths.is_empty() {
            return Err(CheckpointError::NoFile);
        }
        let mut checkpoint = Self {
            paths: paths
                .iter()
                .map(|path| path.as_ref().to_path_buf())
                .collect(),
            files: Vec::with_capacity(paths.len()),
            tensors: BTreeMap::new(),
            gguf: None,
            ignored: Vec::new(),
        };
        for path in paths {
            let file = MappedFile::open(path.as_ref())?;
            let (contents, gguf) = read(&file)?;
            checkpoint.files.push(file);
            checkpoint.gguf = checkpoint.gguf.take().or(gguf);
            checkpoint.ignored.extend(contents.ignored);
            for (name, tensor) in contents.tensors {
                checkpoint.insert(name, tensor)?;
            }
        }
        Ok(checkpoint)
    }

    fn insert(&mut self, name: String, tensor: StoredTensor) -> Result<(), CheckpointError> {
        match self.tensors.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(tensor);
                Ok(())
            }
            Entry::Occupied(entry) => Err(CheckpointError::Twice {
                name: entry.key().clone(),
                path: tensor.path().to_path_buf(),
                other: entry.get().path().to_path_buf(),
            }),
        }
    }

    /// Renames the tensors and removes those for which `rename` returns `None`.
    ///
    /// # Errors
    ///
    /// When two tensors get the same name.
    pub fn rename(self, rename: impl Fn(&str) -> Option<String>) -> Result<Self, CheckpointError> {
        let mut renamed = Self {
            paths: self.paths,
            files: self.files,
            tensors: BTreeMap::new(),
            gguf: self.gguf,
            ignored: self.ignored,
        };
        for (name, tensor) in self.tensors {
            if let Some(name) = rename(&name) {
                renamed.insert(name, tensor)?;
            }
        }
        Ok(renamed)
    }

    /// Returns the paths of the files, as they were passed to [`Self::open`].
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns the mapped files.
    pub fn mapping(&self) -> Mapping {
        Mapping(self.files.clone())
    }

    /// Returns the names of the tensors, sorted. The keys of nested PyTorch dictionaries are joined with
    /// dots.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns the tensors with their names, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Returns the tensor `name`.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Returns the number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Returns whether the files contain no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Returns the names and kinds of the values in PyTorch files that are not tensors, such as the number
    /// of an epoch. Names are formed like those of tensors. [`Self::rename`] does not change them.
    pub fn ignored(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.ignored
            .iter()
            .map(|(name, kind)| (name.as_str(), *kind))
    }

    /// Returns the metadata of the first GGUF file, if there is one.
    pub fn gguf(&self) -> Option<&GgufMetadata> {
        self.gguf.as_ref()
    }
}

/// Returns the contents of a file, with the metadata of a GGUF file.
fn read(file: &Arc<MappedFile>) -> Result<(FileContents, Option<GgufMetadata>), CheckpointError> {
    if file.bytes().starts_with(gguf::MAGIC) {
        return gguf::read(file).map(|(contents, metadata)| (contents, Some(metadata)));
    }
    read_tensors(file).map(|contents| (contents, None))
}

fn read_tensors(file: &Arc<MappedFile>) -> Result<FileContents, CheckpointError> {
    let bytes = file.bytes();
    if safetensors_file::is_safetensors(bytes) {
        return safetensors_file::read(file);
    }
    if pytorch::is_zip(bytes) {
        return pytorch::read_zip(file);
    }
    if pytorch::is_legacy(bytes) {
        return pytorch::read_legacy(file);
    }
    let start = &bytes[..bytes.len().min(8)];
    let found = if bytes.is_empty() {
        "it is empty".to_owned()
    } else if bytes.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer, not the file itself".to_owned()
    } else if bytes.trim_ascii_start().starts_with(b"<") {
        "it is a web page".to_owned()
    } else {
        format!("it begins with \"{}\"", start.escape_ascii())
    };
    Err(file.unsupported(format!(
        "expected weights in a safetensors, PyTorch or GGUF file, but {found} ({} bytes); fetch it again",
        bytes.len()
    )))
}
