//! Copies of the lively model that a test may change, and folders of plugins.

use super::{Run, artifacts, fixture, library_file};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A copy of the lively model: its registry file and its weights in one folder. The lively model has merv-full's
/// architecture at toy size, and its answers vary.
pub struct Tiny {
    folder: Arc<TempDir>,
}

impl Default for Tiny {
    fn default() -> Self {
        Self::new()
    }
}

impl Tiny {
    /// Copies the model into a temporary folder.
    ///
    /// # Panics
    ///
    /// If the files cannot be written.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        copy(&fixture("lively"), folder.path());
        Self {
            folder: Arc::new(folder),
        }
    }

    /// The path of a file of the copy, such as `siglip/config.json`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The path of the registry file.
    pub fn registry(&self) -> PathBuf {
        self.path("registry.toml")
    }

    /// Replaces each occurrence of `from` in a text file.
    ///
    /// # Panics
    ///
    /// If `from` does not occur.
    #[track_caller]
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).expect("the file to edit can be read");
        assert!(text.contains(from), "{file} does not contain `{from}`");
        fs::write(path, text.replace(from, to)).expect("the copy can be written");
    }

    /// `merv-host` with this copy.
    pub fn run(&self) -> Run {
        Run::new()
            .keeping(&self.folder)
            .arg("--registry")
            .arg(self.registry())
    }

    /// `merv-host generate` with this copy: two tokens about a small clip.
    pub fn generate(&self) -> Run {
        self.ask("What is this?", 2)
    }

    /// The same with this prompt and number of tokens.
    pub fn ask(&self, prompt: &str, max_new_tokens: usize) -> Run {
        let run = self
            .run()
            .arg("generate")
            .arg("--video")
            .arg(super::small_clip());
        run.args([
            "--max-new-tokens",
            &max_new_tokens.to_string(),
            "--prompt",
            prompt,
        ])
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the folder to copy can be read") {
        let entry = entry.expect("the folder to copy can be listed");
        let copied = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&copied).expect("the copy can be written");
            copy(&entry.path(), &copied);
        } else {
            fs::copy(entry.path(), copied).expect("the copy can be written");
        }
    }
}

/// A folder of plugins: the libraries `test_plugin_<name>`, copied to `libmerv_<name>.so`.
///
/// # Panics
///
/// If the files cannot be written.
pub fn plugin_folder(names: &[&str]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder can be made");
    for name in names {
        let built = artifacts().library(&format!("test_plugin_{}", name.replace('-', "_")));
        let file = folder
            .path()
            .join(library_file(&format!("merv_{}", name.replace('-', "_"))));
        fs::copy(built, file).expect("the folder can be written");
    }
    folder
}
