//! A file on the hub: its address and its description.

use std::fmt;

/// A file in a model repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// `owner/name`.
    pub repo: String,
    /// The file's path in the repository.
    pub file: String,
    /// A branch, tag or commit. `None` means the main branch.
    pub revision: Option<String>,
}

impl HubFile {
    /// Returns the revision. The default is the main branch.
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

/// The hub's description of the current version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub(super) entry: Entry,
    pub(super) size: u64,
}

impl Remote {
    /// Returns the size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// The names of a blob and its commit. Both are checked: each is a single, safe part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The commit that the revision is at.
    pub(super) commit: String,
    /// The name of the blob. For files in the hub's large file storage, it is the SHA-256 digest.
    pub(super) etag: String,
}
