//! A file of the hub: its address, and what the hub says of it.

use std::fmt;

/// A file of a model repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// `owner/name`.
    pub repo: String,
    /// The file's path in the repository.
    pub file: String,
    /// A branch, tag or commit; the main branch when absent.
    pub revision: Option<String>,
}

impl HubFile {
    /// The revision, the main branch by default.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            repo,
            file,
            revision,
        } = self;
        match revision {
            None => write!(f, "hf://{repo}/{file}"),
            Some(revision) => write!(f, "hf://{repo}@{revision}/{file}"),
        }
    }
}

/// A file as the hub has it now: what is to be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub(super) entry: Entry,
    pub(super) size: u64,
}

impl Remote {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Names a content and where it belongs. Both names are single, harmless parts of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The commit that the revision is at.
    pub(super) commit: String,
    /// The name of the content; the SHA-256 of files that the hub keeps in its large file storage.
    pub(super) etag: String,
}
