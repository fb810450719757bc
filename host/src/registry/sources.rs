//! Where a file comes from: a path, the hub, or the mixer's checkpoint.

use crate::{disk::digest::Sha256Digest, hub::HubFile};
use merv_checkpoint::CheckpointError;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Where weights, a configuration or a tokenizer are to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightSource {
    /// A file of this machine, which existed when the registry was resolved.
    Local {
        /// The file; relative ones were joined to the registry file's folder.
        path: PathBuf,
        /// The digest it must have.
        sha256: Option<Sha256Digest>,
    },
    /// A file of a repository on the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// The file's path in the repository.
        file: String,
        /// Other files of the same folder that serve as well: the first that exists is taken.
        alternatives: Vec<String>,
        /// A branch, tag or commit; the main branch when absent.
        revision: Option<String>,
        /// The digest it must have.
        sha256: Option<Sha256Digest>,
    },
    /// The checkpoint that also holds the mixer.
    Checkpoint,
}

/// A source cannot be used.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The file is gone.
    #[error(
        "{} does not exist\n  expected: the file that the registry names, or a shard that its index \
         names\n  do: {}, or correct the path", .0.display(), remedy(.0)
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
    /// One file was to be named.
    #[error(
        "{0} names several files, and here one is expected\n  do: name the file itself in the registry"
    )]
    Sharded(String),
    /// The file could not be read.
    #[error("{}: cannot read the file", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not the one that the registry names.
    #[error(
        "{}: the file's sha256 is not the registry's\n  expected: {expected}\n  found: {found}\n  \
         do: {}; or, if it was changed on purpose, correct `sha256` in the \
         registry", .path.display(), remedy(.path)
    )]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What the registry says.
        expected: Sha256Digest,
        /// What the file has.
        found: Sha256Digest,
    },
}

/// What to do about a file that is damaged or gone.
fn remedy(path: &Path) -> &'static str {
    let step = path.parent().and_then(Path::file_name);
    let is_of_a_run = step.is_some_and(|name| name.to_string_lossy().starts_with("step-"));
    match is_of_a_run {
        true => {
            "go on with the run that made it by `merv-host train --resume --out RUN`, which begins at an earlier \
             checkpoint, or train again"
        }
        false => "fetch the file again",
    }
}

impl WeightSource {
    /// The file on the hub, if it is there.
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

    /// The files that serve, each as a source of its own, in the order in which they are tried.
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

    /// Another file of the same folder.
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

    /// Whether the file is a GGUF file, by its name.
    pub fn is_gguf(&self) -> bool {
        let name = match self {
            Self::Local { path, .. } => path.as_path(),
            Self::Hub { file, .. } => Path::new(file),
            Self::Checkpoint => return false,
        };
        name.extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    }

    /// Whether the file names the shards of the weights instead of holding them, by its name.
    pub fn is_shard_index(&self) -> bool {
        let name = match self {
            Self::Local { path, .. } => path.to_string_lossy(),
            Self::Hub { file, .. } => file.into(),
            Self::Checkpoint => return false,
        };
        name.ends_with(".index.json")
    }

    /// The digest that the registry states, if it states one.
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

/// Checks that the file has the digest that the registry states.
///
/// # Errors
///
/// [`SourceError::Read`] and [`SourceError::WrongDigest`].
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
