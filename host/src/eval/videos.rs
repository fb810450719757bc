//! Finds the videos of a benchmark.

use crate::messages::quoted;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Component, Path, PathBuf},
};

/// Finds `videos/<video_name>`, a folder of frames or a file, or else `videos/<video_name>.*`.
pub(super) struct Videos {
    root: PathBuf,
    /// The entries of each folder that was listed, by name and by every prefix of the name that ends before a
    /// dot.
    folders: HashMap<PathBuf, BTreeMap<String, PathBuf>>,
}

impl Videos {
    pub(super) fn new(benchmark: &Path) -> Self {
        Self {
            root: benchmark.join("videos"),
            folders: HashMap::new(),
        }
    }

    /// Returns the path of a video.
    ///
    /// # Errors
    ///
    /// When it is not found. The error is a sentence that names the paths that were tried.
    pub(super) fn find(&mut self, name: &str) -> Result<PathBuf, String> {
        let wanted = self.root.join(name);
        let missing = || format!("neither {} nor {0}.* exists", wanted.display());
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let (Some(folder), Some(file)) = (wanted.parent(), Path::new(name).file_name()) else {
            return Err(missing());
        };
        // A benchmark may refer to its own videos only, not to other files on this machine.
        if !inside {
            return Err(format!(
                "`video_name` is {}, which is outside {}; expected a relative path to a video inside it, without `..`",
                quoted(name),
                self.root.display()
            ));
        }
        let entries = match self.folders.get(folder) {
            Some(entries) => entries,
            None => {
                let entries = entries(folder);
                self.folders.entry(folder.to_owned()).or_insert(entries)
            }
        };
        let found = file.to_str().and_then(|file| entries.get(file));
        found.cloned().ok_or_else(missing)
    }
}

fn entries(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    // If several files match a name, the first one is used on every machine.
    paths.sort();
    let mut names = BTreeMap::new();
    let named = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    for path in &paths {
        let Some(name) = named(path) else { continue };
        for (dot, _) in name.match_indices('.').filter(|(dot, _)| *dot > 0) {
            names.entry(name[..dot].to_owned()).or_insert(path.clone());
        }
    }
    for path in paths {
        if let Some(name) = named(&path) {
            names.insert(name, path);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_take_precedence_over_prefixes() {
        let folder = tempfile::tempdir().unwrap();
        let videos = folder.path().join("videos");
        fs::create_dir_all(videos.join("a.b")).unwrap();
        fs::create_dir_all(videos.join("sub")).unwrap();
        for file in ["a.mp4", "a.avi", "c.d.mkv", "sub/e.mp4", ".f.mp4"] {
            fs::write(videos.join(file), "").unwrap();
        }
        let mut found = Videos::new(folder.path());
        for (name, expected) in [
            ("a", Some("a.avi")),
            ("a.b", Some("a.b")),
            ("c", Some("c.d.mkv")),
            ("c.d", Some("c.d.mkv")),
            ("sub/e", Some("sub/e.mp4")),
            (".f", Some(".f.mp4")),
            ("e", None),
            ("", None),
            ("../videos/a", None),
        ] {
            let path = found.find(name).ok();
            assert_eq!(path, expected.map(|file| videos.join(file)), "{name}");
        }
        for name in ["../videos/a", "/etc/passwd", "sub/../a"] {
            let why = found.find(name).unwrap_err();
            assert!(why.contains("which is outside"), "{why}");
        }
    }
}
