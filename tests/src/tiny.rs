//! Copies of the lively model that a test may break, and folders of plugins.

use super::{Run, artifacts, fixture, library_file};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A copy of the lively model, which is merv-full at toy size and answers with many different words: its
/// registry file beside its weights.
pub struct Tiny {
    folder: Arc<TempDir>,
}

impl Default for Tiny {
    fn default() -> Self {
        Self::new()
    }
}

impl Tiny {
    /// A whole copy.
    ///
    /// # Panics
    ///
    /// When the disk is full.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        copy(&fixture("lively"), folder.path());
        Self {
            folder: Arc::new(folder),
        }
    }

    /// A file of the copy: `siglip/config.json`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The registry file.
    pub fn registry(&self) -> PathBuf {
        self.path("registry.toml")
    }

    /// Replaces `from`, which must occur, in a text file.
    ///
    /// # Panics
    ///
    /// When it does not occur.
    #[track_caller]
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).expect("the file to edit is there");
        assert!(text.contains(from), "{file} holds no `{from}`");
        fs::write(path, text.replace(from, to)).expect("the copy can be written");
    }

    /// `merv-host` with this copy.
    pub fn run(&self) -> Run {
        Run::new()
            .keeping(&self.folder)
            .arg("--registry")
            .arg(self.registry())
    }

    /// `merv-host … generate` with this copy: two tokens about a small clip.
    pub fn generate(&self) -> Run {
        self.ask("What is this?", 2)
    }

    /// The same with another prompt and another length.
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
    for entry in fs::read_dir(from).expect("the folder to copy is there") {
        let entry = entry.expect("its entries can be read");
        let copied = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&copied).expect("the copy can be written");
            copy(&entry.path(), &copied);
        } else {
            fs::copy(entry.path(), copied).expect("the copy can be written");
        }
    }
}

/// A folder in which the library targets `test_plugin_<name>` are plugins: `libmerv_<name>.so`.
///
/// # Panics
///
/// When the disk is full.
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
