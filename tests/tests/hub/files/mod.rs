//! Files of the hub, as the library downloads them.

mod disk;
mod distrust;
mod downloads;
mod refusals;

use merv_host::hub::{Hub, HubError, HubFile, Settings, Token};
use merv_tests::{FileKind, HubServer, chain};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

const REPO: &str = "owner/model";

const WEIGHTS: &str = "model.safetensors";

/// Content that exceeds the buffers of a connection, so that lost connections are noticed.
fn content() -> Vec<u8> {
    (0..600_000u32).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// A hub, its cache, and one large file in `owner/model`.
struct TestHub {
    server: HubServer,
    cache: TempDir,
    etag: String,
}

impl TestHub {
    fn new() -> Self {
        let server = HubServer::new();
        let etag = server.add(REPO, WEIGHTS, content(), FileKind::Large);
        Self {
            server,
            cache: TempDir::new().unwrap(),
            etag,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            cache: Some(self.cache.path().to_owned()),
            token: None,
            endpoint: self.server.endpoint(),
            offline: false,
            retry_delay: Duration::from_millis(1),
            proxy_from_env: false,
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings())
    }

    fn with_token(&self, token: &str) -> Hub {
        let token = Token::new(token, "$HF_TOKEN");
        Hub::new(Settings {
            token,
            ..self.settings()
        })
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("models--owner--model")
    }

    fn blob(&self) -> PathBuf {
        self.folder().join("blobs").join(&self.etag)
    }

    fn incomplete(&self) -> PathBuf {
        self.blob().with_extension("incomplete")
    }

    /// Writes the partial file of an interrupted download.
    fn leave(&self, bytes: &[u8]) {
        fs::create_dir_all(self.folder().join("blobs")).unwrap();
        fs::write(self.incomplete(), bytes).unwrap();
    }

    /// The ranges of the requests for content since the last call.
    fn ranges(&self) -> Vec<Option<String>> {
        let seen = self.server.seen().into_iter();
        let content = seen.filter(|seen| seen.storage && seen.method == "GET");
        content.map(|seen| seen.range).collect()
    }
}

fn file(path: &str) -> HubFile {
    HubFile {
        repo: REPO.into(),
        file: path.into(),
        revision: None,
    }
}

fn fetch(hub: &Hub, file: &HubFile) -> Result<PathBuf, HubError> {
    let remote = hub.locate(file)?;
    hub.download(file, &remote, &mut |_, _| {})
}

#[track_caller]
fn assert_whole(path: &Path) {
    assert!(fs::read(path).unwrap() == content(), "the content differs");
}

#[track_caller]
fn assert_refused(error: HubError, words: &[&str]) {
    let message = chain(&error);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in:\n{message}");
    }
}
