//! Where the videos of a benchmark are.

use crate::messages::shown;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Component, Path, PathBuf},
};

/// Finds `videos/<video_name>` (a folder of frames, or a file named so) or else `videos/<video_name>.*`.
pub(super) struct Videos {
    root: PathBuf,
    /// The entries of each folder that was looked into, by name and by every beginning of it that ends
    /// before a dot.
    folders: HashMap<PathBuf, BTreeMap<String, PathBuf>>,
}

impl Videos {
    pub(super) fn new(benchmark: &Path) -> Self {
        Self {
            root: benchmark.join("videos"),
            folders: HashMap::new(),
        }
    }

    /// The path of a video.
    ///
    /// # Errors
    ///
    /// A sentence on what was looked for.
    pub(super) fn find(&mut self, name: &str) -> Result<PathBuf, String> {
        let wanted = self.root.join(name);
        let missing = || format!("there is no {} and no {0}.*", wanted.display());
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let (Some(folder), Some(file)) = (wanted.parent(), Path::new(name).file_name()) else {
            return Err(missing());
        };
        // A benchmark names its own videos, not files of this machine.
        if !inside {
            return Err(format!(
                "`video_name` is {}, which leads out of {}; expected the name of a video in it, without `..` and not \
                 from the root",
                shown(name),
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
    // Of several files of one name the first is taken, on every machine the same.
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
    fn exact_names_come_before_endings() {
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
            assert!(why.contains("leads out of"), "{why}");
        }
    }
}
