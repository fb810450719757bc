//! Where a file comes from: a path, the hub, or the mixer's checkpoint; and its digest.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};
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
    /// The file is on the hub.
    #[error(
        "`{file}` of the hub repository `{repo}` cannot be fetched: downloads from the hub are \
         not built yet\n  do: download the file yourself and give its path in the registry, \
         `{{ path = \"…\" }}`"
    )]
    HubNotBuilt {
        /// The repository.
        repo: String,
        /// The file in it.
        file: String,
    },
    /// The file is a part of the mixer's checkpoint.
    #[error(
        "reading these weights out of the mixer's checkpoint (`checkpoint = true`) is not built \
         yet\n  do: give a file of their own in the registry, `{{ path = \"…\" }}`"
    )]
    CheckpointNotBuilt,
    /// The file could not be read.
    #[error("{}: cannot read the file to check its sha256", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not the one that the registry names.
    #[error(
        "{}: the file's sha256 is not the registry's\n  expected: {expected}\n  found: {found}\n  \
         do: fetch the file again; or, if it was changed on purpose, correct `sha256` in the \
         registry", .path.display()
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

impl WeightSource {
    /// The file on this machine. Its digest is not checked; see [`WeightSource::verify`].
    ///
    /// # Errors
    /// [`SourceError::HubNotBuilt`] and [`SourceError::CheckpointNotBuilt`] for the sources that
    /// this version cannot fetch.
    pub fn local_path(&self) -> Result<&Path, SourceError> {
        match self {
            Self::Local { path, .. } => Ok(path),
            Self::Hub { repo, file, .. } => Err(SourceError::HubNotBuilt {
                repo: repo.clone(),
                file: file.clone(),
            }),
            Self::Checkpoint => Err(SourceError::CheckpointNotBuilt),
        }
    }

    /// The digest that the registry states, if it states one.
    pub fn sha256(&self) -> Option<&Sha256Digest> {
        match self {
            Self::Local { sha256, .. } | Self::Hub { sha256, .. } => sha256.as_ref(),
            Self::Checkpoint => None,
        }
    }

    /// Reads the file once to compare its digest with the stated one. Without a stated digest
    /// nothing is read.
    ///
    /// # Errors
    /// As [`WeightSource::local_path`] and [`Sha256Digest::verify`].
    pub fn verify(&self) -> Result<(), SourceError> {
        let path = self.local_path()?;
        self.sha256().map_or(Ok(()), |digest| digest.verify(path))
    }
}

impl fmt::Display for WeightSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path, .. } => write!(f, "{}", path.display()),
            Self::Hub {
                repo,
                file,
                revision: None,
                ..
            } => write!(f, "hf://{repo}/{file}"),
            Self::Hub {
                repo,
                file,
                revision: Some(revision),
                ..
            } => {
                write!(f, "hf://{repo}@{revision}/{file}")
            }
            Self::Checkpoint => f.write_str("the mixer's checkpoint"),
        }
    }
}

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest of a file, read piece by piece.
    ///
    /// # Errors
    /// What reading the file gives.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Self(hasher.finalize().into())),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Compares the file's digest with this one.
    ///
    /// # Errors
    /// [`SourceError::Read`] and [`SourceError::WrongDigest`].
    pub fn verify(&self, path: &Path) -> Result<(), SourceError> {
        let found = Self::of_file(path).map_err(|source| SourceError::Read {
            path: path.to_owned(),
            source,
        })?;
        if found == *self {
            return Ok(());
        }
        Err(SourceError::WrongDigest {
            path: path.to_owned(),
            expected: *self,
            found,
        })
    }
}

impl FromStr for Sha256Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || {
            let count = text.chars().count();
            format!("is not a sha256: it needs 64 hexadecimal digits and has {count} characters")
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(malformed());
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(malformed());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
