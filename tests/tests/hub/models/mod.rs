//! Whole models whose files are on a hub, as the program loads them.

mod loading;
mod published_config;
mod shards;

use merv_tests::{FileKind, HubServer, Run, Tiny};
use serde_json::Value;
use std::{fs, sync::Arc};
use tempfile::TempDir;

const REPO: &str = "merv/tiny";

/// The lively model with all of its files on a hub.
struct PublishedModel {
    server: HubServer,
    home: Arc<TempDir>,
    tiny: Tiny,
}

/// The files of the lively model on the hub, except the tokenizer.
const FILES: [&str; 11] = [
    "languagebind/model.safetensors",
    "languagebind/config.json",
    "dinov2/model.safetensors",
    "dinov2/config.json",
    "vivit/model.safetensors",
    "vivit/config.json",
    "siglip/model.safetensors",
    "siglip/config.json",
    "llm/model.safetensors",
    "llm/config.json",
    "mixer.safetensors",
];

impl PublishedModel {
    fn new() -> Self {
        let published = Self {
            server: HubServer::new(),
            home: Arc::new(TempDir::new().unwrap()),
            tiny: Tiny::new(),
        };
        for file in FILES.into_iter().chain(["llm/tokenizer.json"]) {
            let content = fs::read(published.tiny.path(file)).unwrap();
            let kind = if file.ends_with(".json") {
                FileKind::Small
            } else {
                FileKind::Large
            };
            published.server.add(REPO, file, content, kind);
        }
        for weights in FILES
            .into_iter()
            .filter(|file| file.ends_with(".safetensors"))
        {
            let here = format!("weights = {{ path = \"{weights}\" }}");
            let mut there = format!("weights = {{ repo = \"{REPO}\", file = \"{weights}\" }}");
            if let Some((folder, _)) = weights.split_once('/') {
                there +=
                    &format!("\nconfig = {{ repo = \"{REPO}\", file = \"{folder}/config.json\" }}");
            }
            published.tiny.replace("registry.toml", &here, &there);
            fs::remove_file(published.tiny.path(weights)).unwrap();
        }
        published
    }

    /// Lets a run use the hub.
    fn online(&self, run: Run) -> Run {
        run.keeping(&self.home)
            .env("HF_HOME", self.home.path())
            .env("HF_ENDPOINT", self.server.endpoint())
            .env("HF_HUB_OFFLINE", "0")
    }

    fn generate(&self) -> Run {
        self.online(self.tiny.generate()).arg("--json")
    }

    /// The paths of the files that were downloaded since the last call.
    fn downloads(&self) -> Vec<String> {
        let seen = self.server.seen().into_iter();
        let content = seen.filter(|seen| {
            seen.method == "GET" && (seen.storage || seen.path.starts_with("/api/resolve-cache/"))
        });
        content.map(|seen| seen.path).collect()
    }
}

/// The tokens of an answer.
fn tokens(stdout: &str) -> Value {
    let reply: Value = serde_json::from_str(stdout).unwrap();
    reply["tokens"].clone()
}
