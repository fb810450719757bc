//! The errors of downloads from the hub.

use super::{file::HubFile, settings::Settings};
use crate::disk::digest::Sha256Digest;
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The cause of a failed connection.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A file could not be downloaded from the hub.
#[derive(Debug, Error)]
pub enum HubError {
    /// No cache folder is known.
    #[error(
        "there is no folder for downloads from the hub\n  expected: a home folder, or HF_HOME or \
         HF_HUB_CACHE\n  found: none of them\n  do: set HF_HOME to a folder with enough space"
    )]
    NoCache,
    /// `HF_ENDPOINT` is not a URL.
    #[error(
        "HF_ENDPOINT is not the URL of a hub\n  expected: a URL such as \
         https://huggingface.co\n  found: `{0}`\n  do: correct or unset HF_ENDPOINT"
    )]
    Endpoint(String),
    /// The token is not valid.
    #[error(
        "{0} does not contain an access token\n  expected: one word such as hf_… of letters, digits and `_`\n  \
         found: spaces, line breaks or characters that tokens do not contain\n  \
         do: copy the token again from your settings on the hub"
    )]
    Token(String),
    /// The file is not in the cache, and downloads are not possible.
    #[error(
        "`{file}` is not in the cache, and {why}\n  looked in: {}\n  do: run `merv-host … generate` \
         once where downloads are possible, or `{command}`; or use a local file in the \
         registry, `{{ path = \"…\" }}`", folder_text(.cache.as_deref())
    )]
    Missing {
        /// The file.
        file: String,
        /// The cache folder.
        cache: Option<PathBuf>,
        /// A command that downloads the file.
        command: String,
        /// Why the file is not downloaded.
        why: &'static str,
    },
    /// The terms of the repository have to be accepted.
    #[error(
        "`{file}` is in a gated repository; you must accept its terms first\n  found: {}\n  \
         do: sign in at {page} and accept the terms there; create a token at \
         https://huggingface.co/settings/tokens and put it in HF_TOKEN or in a file `.hf_token`",
        token_text(.token.as_deref(), "which belongs to an account without access, or cannot read \
         gated repositories")
    )]
    Gated {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
        /// The place where the token was found, if there is one.
        token: Option<String>,
    },
    /// The repository does not exist, or is private.
    #[error(
        "the repository of `{file}` does not exist, or is private\n  looked at: {page}\n  found: {}\n  \
         do: correct `repo` in the registry; for a private repository, put a token that can read it \
         in HF_TOKEN", token_text(.token.as_deref(), "which cannot read it")
    )]
    NoRepository {
        /// The file.
        file: String,
        /// The URL where the repository should be.
        page: String,
        /// The place where the token was found, if there is one.
        token: Option<String>,
    },
    /// The branch, tag or commit does not exist.
    #[error(
        "the repository of `{file}` does not have this revision\n  looked at: {page}\n  \
         do: correct `revision` in the registry, or remove it to use the main branch"
    )]
    NoRevision {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
    },
    /// The file does not exist in the repository.
    #[error(
        "the repository has no file `{file}`\n  do: see its files at {page}/tree/main and \
         correct `file` in the registry"
    )]
    NoFile {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
    },
    /// The hub denies access to the file.
    #[error(
        "the hub denies access to `{file}` ({status}): {message}\n  found: {}\n  \
         do: check that the token is valid and can read {page}; create one at \
         https://huggingface.co/settings/tokens and put it in HF_TOKEN or in a file `.hf_token`",
        token_text(.token.as_deref(), "which was not accepted")
    )]
    Denied {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
        /// The place where the token was found, if there is one.
        token: Option<String>,
        /// The status of the response, such as `403 Forbidden`.
        status: String,
        /// The hub's message.
        message: String,
    },
    /// The request failed for another reason.
    #[error("the hub refuses `{file}`: the response was {status} {message}\n  do: try again later")]
    Refused {
        /// The file.
        file: String,
        /// The status of the response, such as `403 Forbidden`.
        status: String,
        /// The hub's message.
        message: String,
    },
    /// The hub does not respond.
    #[error(
        "the hub cannot be reached for `{file}`: {what}\n  endpoint: {endpoint}\n  do: check the network, \
         HF_ENDPOINT and the proxy (HTTPS_PROXY); without a network, use files in the cache with \
         --offline"
    )]
    Unreachable {
        /// The file that was requested first.
        file: String,
        /// The hub's URL.
        endpoint: String,
        /// What went wrong.
        what: String,
        /// The cause.
        source: Option<Cause>,
    },
    /// The response is not that of a hub.
    #[error(
        "the response for {url} is not that of a hub: {what}\n  do: check HF_ENDPOINT and the proxy, or \
         try again later"
    )]
    NotTheHub {
        /// The requested URL.
        url: String,
        /// What is wrong with the response.
        what: String,
    },
    /// The connection was lost too often.
    #[error(
        "the download of `{file}` was interrupted: {what}\n  expected: {size} bytes\n  found: {received} \
         bytes\n  do: run the same command again; it resumes the download"
    )]
    Broken {
        /// The file.
        file: String,
        /// The number of received bytes.
        received: u64,
        /// The size of the file in bytes.
        size: u64,
        /// What went wrong last.
        what: String,
        /// The cause.
        source: Option<Cause>,
    },
    /// The length is not the one that the hub stated.
    #[error(
        "the download of `{file}` has the wrong length\n  expected: {expected} bytes\n  found: {found} bytes\n  \
         do: try again; if you use a proxy or a mirror (HF_ENDPOINT), check that it does not change files"
    )]
    WrongLength {
        /// The file.
        file: String,
        /// The length that the hub stated.
        expected: u64,
        /// The length that was received or announced.
        found: u64,
    },
    /// The digest is not the one that the hub stated.
    #[error(
        "the download of `{file}` is damaged: its sha256 is not the hub's\n  expected: {expected}\n  found: \
         {found}\n  do: try again; if you use a proxy or a mirror (HF_ENDPOINT), check that it does not \
         change files"
    )]
    WrongDigest {
        /// The file.
        file: String,
        /// The hub's digest.
        expected: Sha256Digest,
        /// The digest of the received bytes.
        found: Sha256Digest,
    },
    /// The cache cannot be written.
    #[error(
        "{} cannot be written\n  do: {}", .path.display(),
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded =>
                "free space on that disk, or set HF_HOME to a folder with more space, and run the same \
                 command again; it resumes the download",
            io::ErrorKind::InvalidFilename =>
                "the name is longer than this system allows: use a file with a shorter name in the \
                 registry, or set HF_HOME to a folder with a shorter path",
            _ => "make the folder writable, or set HF_HOME to a writable folder",
        }
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl HubError {
    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    /// Replaces the name of the file in errors that concern the file itself.
    pub(crate) fn with_file_name(mut self, name: &str) -> Self {
        if let Self::NoFile { file, .. } | Self::Missing { file, .. } = &mut self {
            name.clone_into(file);
        }
        self
    }

    /// Returns whether every other download would fail too.
    pub(crate) fn stops_all(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Write { .. } | Self::NoCache
        )
    }
}

/// Describes the token of a request. `which` continues the sentence if there is one.
fn token_text(token: Option<&str>, which: &str) -> String {
    match token {
        None => "no token: HF_TOKEN is not set, there is no file `.hf_token`, and the hub's tools are not logged in"
            .to_owned(),
        Some(origin) => format!("the token from {origin}, {which}"),
    }
}

pub(super) fn missing(file: &HubFile, settings: &Settings, why: &'static str) -> HubError {
    HubError::Missing {
        file: file.to_string(),
        cache: settings.cache.clone(),
        command: hf_command(file),
        why,
    }
}

/// Returns the command of the hub's own tool that downloads the file into the cache.
fn hf_command(file: &HubFile) -> String {
    let revision = file.revision.as_deref();
    let revision = revision.map_or(String::new(), |name| format!(" --revision {name}"));
    format!("hf download {} {}{revision}", file.repo, file.file)
}

/// Returns the text for a cache folder in a message.
fn folder_text(folder: Option<&Path>) -> String {
    match folder {
        Some(folder) => folder.display().to_string(),
        None => "(none: no home folder is known, and neither HF_HOME nor HF_HUB_CACHE is set)"
            .to_owned(),
    }
}
