//! The source of a file: a path, the hub, or the mixer's checkpoint.

use crate::{disk::digest::Sha256Digest, hub::HubFile};
use merv_checkpoint::CheckpointError;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The source of weights, a configuration or a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightSource {
    /// A file on this machine. It existed when the registry was resolved.
    Local {
        /// The path of the file. Relative paths were joined to the folder of the registry file.
        path: PathBuf,
        /// The expected digest.
        sha256: Option<Sha256Digest>,
    },
    /// A file in a repository on the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// The file's path in the repository.
        file: String,
        /// Alternative files in the same folder. The first one that exists is used.
        alternatives: Vec<String>,
        /// A branch, tag or commit. `None` means the main branch.
        revision: Option<String>,
        /// The expected digest.
        sha256: Option<Sha256Digest>,
    },
    /// The checkpoint that also contains the mixer.
    Checkpoint,
}

/// A source cannot be used.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The file does not exist.
    #[error(
        "{} does not exist\n  expected: a file of the registry, or a shard of its index\n  \
         do: {}, or correct the path", .0.display(), remedy(.0)
    )]
    Missing(PathBuf),
    /// A shard index of the hub cannot be used.
    #[error("{}: {why}\n  expected: an index such as `model.safetensors.index.json`", .path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A shard index on this machine cannot be used.
    #[error(transparent)]
    Shards(#[from] CheckpointError),
    /// An index was given where a single file is needed.
    #[error(
        "{0} refers to several files, but a single file is expected\n  do: give the file itself in the registry"
    )]
    Sharded(String),
    /// The file cannot be read.
    #[error("{}: cannot read the file", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The digest of the file is not the one in the registry.
    #[error(
        "{}: the file's sha256 is not the registry's\n  expected: {expected}\n  found: {found}\n  \
         do: {}; or, if it was changed on purpose, correct `sha256` in the \
         registry", .path.display(), remedy(.path)
    )]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// The digest in the registry.
        expected: Sha256Digest,
        /// The digest of the file.
        found: Sha256Digest,
    },
}

/// Returns the advice for a file that is damaged or missing.
fn remedy(path: &Path) -> &'static str {
    let step = path.parent().and_then(Path::file_name);
    let is_of_a_run = step.is_some_and(|name| name.to_string_lossy().starts_with("step-"));
    match is_of_a_run {
        true => {
            "resume the training run that wrote it with `merv-host train --resume --out RUN`, which starts from \
             an earlier checkpoint, or train again"
        }
        false => "download the file again",
    }
}

impl WeightSource {
    /// Returns the file on the hub, if the source is on the hub.
    pub fn hub_file(&self) -> Option<HubFile> {
        match self {
            Self::Hub {
                repo,
                file,
                revision,
                ..
            } => Some(HubFile {
                repo: repo.clone(),
                file: file.clone(),
                revision: revision.clone(),
            }),
            Self::Local { .. } | Self::Checkpoint => None,
        }
    }

    /// Returns each alternative as a separate source, in the order in which they are tried.
    pub(crate) fn alternatives(&self) -> Vec<Self> {
        let Self::Hub {
            repo,
            file,
            alternatives,
            revision,
            sha256,
        } = self
        else {
            return vec![self.clone()];
        };
        let single = |file: &String| Self::Hub {
            repo: repo.clone(),
            file: file.clone(),
            alternatives: Vec::new(),
            revision: revision.clone(),
            sha256: *sha256,
        };
        [file].into_iter().chain(alternatives).map(single).collect()
    }

    /// Returns the source of another file in the same folder.
    pub(crate) fn beside(&self, name: &str) -> Self {
        match self {
            Self::Local { path, .. } => Self::Local {
                path: path.with_file_name(name),
                sha256: None,
            },
            Self::Hub {
                repo,
                file,
                revision,
                ..
            } => Self::Hub {
                repo: repo.clone(),
                file: match file.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/{name}"),
                    None => name.to_owned(),
                },
                alternatives: Vec::new(),
                revision: revision.clone(),
                sha256: None,
            },
            Self::Checkpoint => Self::Checkpoint,
        }
    }

    /// Returns whether the file is a GGUF file according to its name.
    pub fn is_gguf(&self) -> bool {
        let name = match self {
            Self::Local { path, .. } => path.as_path(),
            Self::Hub { file, .. } => Path::new(file),
            Self::Checkpoint => return false,
        };
        name.extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    }

    /// Returns whether the file is an index that lists the shards of the weights, according to its name.
    pub fn is_shard_index(&self) -> bool {
        let name = match self {
            Self::Local { path, .. } => path.to_string_lossy(),
            Self::Hub { file, .. } => file.into(),
            Self::Checkpoint => return false,
        };
        name.ends_with(".index.json")
    }

    /// Returns the digest in the registry, if there is one.
    pub fn sha256(&self) -> Option<&Sha256Digest> {
        match self {
            Self::Local { sha256, .. } | Self::Hub { sha256, .. } => sha256.as_ref(),
            Self::Checkpoint => None,
        }
    }
}

impl fmt::Display for WeightSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.hub_file()) {
            (Self::Local { path, .. }, _) => write!(f, "{}", path.display()),
            (Self::Hub { alternatives, .. }, Some(file)) => {
                file.fmt(f)?;
                alternatives
                    .iter()
                    .try_for_each(|other| write!(f, " or {other}"))
            }
            (_, _) => f.write_str("the mixer's checkpoint"),
        }
    }
}

/// Checks that a file has the digest in the registry.
///
/// # Errors
///
/// Returns [`SourceError::Read`] or [`SourceError::WrongDigest`].
pub(crate) fn verify(path: &Path, expected: &Sha256Digest) -> Result<(), SourceError> {
    let found = Sha256Digest::of_file(path).map_err(|source| SourceError::Read {
        path: path.to_owned(),
        source,
    })?;
    if found == *expected {
        return Ok(());
    }
    Err(SourceError::WrongDigest {
        path: path.to_owned(),
        expected: *expected,
        found,
    })
}
