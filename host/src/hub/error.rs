//! Why a file of the hub cannot be had, and what to do about it.

use super::{file::HubFile, settings::Settings};
use crate::disk::digest::Sha256Digest;
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why a connection failed.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A file of the hub cannot be had.
#[derive(Debug, Error)]
pub enum HubError {
    /// There is nowhere to keep files.
    #[error(
        "there is no folder for files of the hub\n  expected: a home folder, or HF_HOME or \
         HF_HUB_CACHE\n  found: none of them\n  do: set HF_HOME to a folder with enough space"
    )]
    NoCache,
    /// `HF_ENDPOINT` is no address.
    #[error(
        "HF_ENDPOINT is not the address of a hub\n  expected: an address such as \
         https://huggingface.co\n  found: `{0}`\n  do: correct or unset HF_ENDPOINT"
    )]
    Endpoint(String),
    /// What was found is no token.
    #[error(
        "{0} holds no access token\n  expected: one word such as hf_… of letters, digits and `_`\n  \
         found: blanks, line breaks or characters that no token has\n  \
         do: copy the token again from your settings on the hub"
    )]
    Token(String),
    /// The file is not in the cache, and may not be downloaded now.
    #[error(
        "`{file}` is not in the cache, and {why}\n  looked in: {}\n  do: run `merv-host … generate` \
         once where downloads are possible, or `{command}`; or give a file of your own in the \
         registry, `{{ path = \"…\" }}`", shown_folder(.cache.as_deref())
    )]
    Missing {
        /// The file.
        file: String,
        /// The folder of the cache.
        cache: Option<PathBuf>,
        /// What would fetch it.
        command: String,
        /// Why it is not downloaded.
        why: &'static str,
    },
    /// The repository's terms have to be accepted.
    #[error(
        "`{file}` is in a gated repository: its terms have to be accepted first\n  found: {}\n  \
         do: sign in at {page} and accept the terms there; make a token at \
         https://huggingface.co/settings/tokens and put it into HF_TOKEN or into a file `.hf_token`",
        asked_with(.token.as_deref(), "which belongs to an account without access, or may not read \
         gated repositories")
    )]
    Gated {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
        /// Where the token was found that was shown, if one was.
        token: Option<String>,
    },
    /// The repository is not there, or not for everybody.
    #[error(
        "the repository of `{file}` does not exist, or is private\n  looked at: {page}\n  found: {}\n  \
         do: correct `repo` in the registry; for a private repository put a token that may read it \
         into HF_TOKEN", asked_with(.token.as_deref(), "which does not show it")
    )]
    NoRepository {
        /// The file.
        file: String,
        /// Where the repository would be.
        page: String,
        /// Where the token was found that was shown, if one was.
        token: Option<String>,
    },
    /// The repository has no such branch, tag or commit.
    #[error(
        "the repository of `{file}` has no such revision\n  looked at: {page}\n  \
         do: correct `revision` in the registry, or remove it to take the main branch"
    )]
    NoRevision {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
    },
    /// The repository has no such file.
    #[error(
        "the repository has no file `{file}`\n  do: see which files it has at {page}/tree/main and \
         correct `file` in the registry"
    )]
    NoFile {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
    },
    /// The hub does not let this user have it.
    #[error(
        "the hub does not let you have `{file}` ({status}): {said}\n  found: {}\n  \
         do: check that the token is valid and may read {page}; make one at \
         https://huggingface.co/settings/tokens and put it into HF_TOKEN or into a file `.hf_token`",
        asked_with(.token.as_deref(), "which was not accepted")
    )]
    Denied {
        /// The file.
        file: String,
        /// The repository's page.
        page: String,
        /// Where the token was found that was shown, if one was.
        token: Option<String>,
        /// The answer, such as `403 Forbidden`.
        status: String,
        /// What the hub said, in its own words.
        said: String,
    },
    /// The hub refuses for another reason.
    #[error("the hub refuses `{file}`: it answered {status} {said}\n  do: try again later")]
    Refused {
        /// The file.
        file: String,
        /// The answer, such as `403 Forbidden`.
        status: String,
        /// What the hub said, in its own words.
        said: String,
    },
    /// There is no way to the hub.
    #[error(
        "the hub cannot be reached for `{file}`: {what}\n  asked: {endpoint}\n  do: check the network, \
         HF_ENDPOINT and the proxy (HTTPS_PROXY); without a network, files in the cache are used with \
         --offline"
    )]
    Unreachable {
        /// The file that was asked for first.
        file: String,
        /// The hub's address.
        endpoint: String,
        /// What went wrong.
        what: String,
        /// Why.
        source: Option<Cause>,
    },
    /// Something else answers.
    #[error(
        "{url} was not answered as the hub would: {what}\n  do: check HF_ENDPOINT and the proxy, or \
         try again later"
    )]
    NotTheHub {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// The connection broke again and again.
    #[error(
        "the download of `{file}` broke off: {what}\n  expected: {size} bytes\n  found: {received} \
         bytes\n  do: run the same command again; it goes on where it stopped"
    )]
    Broken {
        /// The file.
        file: String,
        /// Bytes that are there.
        received: u64,
        /// Bytes of the file.
        size: u64,
        /// What went wrong last.
        what: String,
        /// Why.
        source: Option<Cause>,
    },
    /// What comes has another length than was announced.
    #[error(
        "`{file}` does not come as announced\n  expected: {expected} bytes\n  found: {found} bytes\n  \
         do: try again; if a proxy or a mirror (HF_ENDPOINT) is between, check that it passes files on \
         unchanged"
    )]
    WrongLength {
        /// The file.
        file: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came, or would come.
        found: u64,
    },
    /// What came has another digest than was announced.
    #[error(
        "`{file}` arrived damaged: its sha256 is not the hub's\n  expected: {expected}\n  found: \
         {found}\n  do: try again; if a proxy or a mirror (HF_ENDPOINT) is between, check that it \
         passes files on unchanged"
    )]
    WrongDigest {
        /// The file.
        file: String,
        /// The hub's digest.
        expected: Sha256Digest,
        /// The digest of what came.
        found: Sha256Digest,
    },
    /// The cache cannot be written.
    #[error(
        "{} cannot be written\n  do: {}", shown(.path),
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded =>
                "free space on that disk, or set HF_HOME to a folder with more, and run the same \
                 command again; a download goes on where it stopped",
            io::ErrorKind::InvalidFilename =>
                "the name is longer than this system allows: name a file with a shorter one in the \
                 registry, or set HF_HOME to a folder with a shorter path",
            _ => "make the folder writable, or set HF_HOME to one that is",
        }
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
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

    /// Names the file as `name`, where that says more.
    pub(crate) fn about(mut self, name: &str) -> Self {
        if let Self::NoFile { file, .. } | Self::Missing { file, .. } = &mut self {
            name.clone_into(file);
        }
        self
    }

    /// Whether it would stop every other download too.
    pub(crate) fn stops_all(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Write { .. } | Self::NoCache
        )
    }
}

/// Who asked.
fn asked_with(token: Option<&str>, which: &str) -> String {
    match token {
        None => "no token: neither HF_TOKEN nor a file `.hf_token` nor a login of the hub's tools"
            .to_owned(),
        Some(origin) => format!("the token of {origin}, {which}"),
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

/// The command of the hub's own tool that puts the file into the cache.
fn hf_command(file: &HubFile) -> String {
    let revision = file.revision.as_deref();
    let revision = revision.map_or(String::new(), |name| format!(" --revision {name}"));
    format!("hf download {} {}{revision}", file.repo, file.file)
}

/// The folder of a cache as messages show it.
fn shown_folder(folder: Option<&Path>) -> String {
    folder.map_or_else(
        || {
            "(none: no home folder is known, and neither HF_HOME nor HF_HUB_CACHE is set)"
                .to_owned()
        },
        shown,
    )
}

/// A path in a message.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
