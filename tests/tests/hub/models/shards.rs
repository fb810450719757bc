//! Weights in several files.

use super::{PublishedModel, REPO, tokens};
use merv_tests::{FileKind, Run, Tiny, edit};
use serde_json::json;
use std::{collections::BTreeMap, fs, path::Path};
use tempfile::TempDir;

/// Splits a safetensors file into two shards, and returns their index.
fn split(file: &Path) -> String {
    let mut map = BTreeMap::new();
    for shard in 0..2 {
        let name = format!("model-{}-of-2.safetensors", shard + 1);
        let path = file.with_file_name(&name);
        fs::copy(file, &path).unwrap();
        edit(&path, |tensors| {
            let mut position = 0;
            tensors.retain(|tensor, _| {
                position += 1;
                let kept = position % 2 == shard;
                if kept {
                    map.insert(tensor.clone(), name.clone());
                }
                kept
            });
        });
    }
    fs::remove_file(file).unwrap();
    json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string()
}

/// A copy of the lively model with its language model in two shards.
fn sharded() -> Tiny {
    let tiny = Tiny::new();
    let index = split(&tiny.path("llm/model.safetensors"));
    fs::write(tiny.path("llm/model.safetensors.index.json"), index).unwrap();
    tiny.replace(
        "registry.toml",
        "llm/model.safetensors\"",
        "llm/model.safetensors.index.json\"",
    );
    tiny
}

#[test]
fn shards_are_found_through_their_index() {
    let whole = Tiny::new().generate().arg("--json").finish().succeeded();
    let tiny = sharded();
    let run = tiny.generate().arg("--json").finish().succeeded();
    assert_eq!(tokens(&run.stdout), tokens(&whole.stdout));

    let published = PublishedModel::new();
    for file in [
        "model.safetensors.index.json",
        "model-1-of-2.safetensors",
        "model-2-of-2.safetensors",
    ] {
        let content = fs::read(tiny.path(&format!("llm/{file}"))).unwrap();
        let kind = if file.ends_with(".json") {
            FileKind::Small
        } else {
            FileKind::Large
        };
        published
            .server
            .add(REPO, &format!("llm/{file}"), content, kind);
    }
    published.tiny.replace(
        "registry.toml",
        "llm/model.safetensors\"",
        "llm/model.safetensors.index.json\"",
    );
    let offline = published.generate().arg("--offline").finish();
    offline.failed(1, &["llm/model.safetensors.index.json"]);
    let run = published.generate().finish().succeeded();
    assert_eq!(tokens(&run.stdout), tokens(&whole.stdout));
    let again = published.generate().arg("--offline").finish().succeeded();
    assert_eq!(tokens(&again.stdout), tokens(&whole.stdout));

    // A mixer must be one file.
    tiny.replace(
        "registry.toml",
        "\"mixer.safetensors\"",
        "\"llm/model.safetensors.index.json\"",
    );
    tiny.generate()
        .finish()
        .failed(1, &["index.json", "several files"]);
}

#[test]
fn a_missing_shard_is_named() {
    let tiny = sharded();
    fs::remove_file(tiny.path("llm/model-2-of-2.safetensors")).unwrap();
    tiny.generate()
        .finish()
        .failed(1, &["model-2-of-2.safetensors"]);
}

/// Lists one more tensor in the index in `text`, in the second shard, which lacks it.
fn with_a_lost_tensor(text: &str) -> String {
    let mut index: serde_json::Value = serde_json::from_str(text).unwrap();
    index["weight_map"]["lost.weight"] = json!("model-2-of-2.safetensors");
    index.to_string()
}

#[test]
fn a_tensor_that_the_index_lists_and_no_shard_contains_is_named() {
    let tiny = sharded();
    let index = tiny.path("llm/model.safetensors.index.json");
    let text = with_a_lost_tensor(&fs::read_to_string(&index).unwrap());
    fs::write(&index, &text).unwrap();
    let words = ["index.json", "`lost.weight`", "model-2-of-2.safetensors"];
    tiny.generate().finish().failed(1, &words);
    let out = tiny.path("converted");
    let convert = Run::new().arg("convert").arg(&index);
    convert.arg("--out").arg(&out).finish().failed(1, &words);
    assert!(!out.exists());

    let published = PublishedModel::new();
    published.server.add(
        REPO,
        "llm/model.safetensors.index.json",
        text,
        FileKind::Small,
    );
    for file in ["model-1-of-2.safetensors", "model-2-of-2.safetensors"] {
        let content = fs::read(tiny.path(&format!("llm/{file}"))).unwrap();
        published
            .server
            .add(REPO, &format!("llm/{file}"), content, FileKind::Large);
    }
    published.tiny.replace(
        "registry.toml",
        "llm/model.safetensors\"",
        "llm/model.safetensors.index.json\"",
    );
    published.generate().finish().failed(1, &words);
}

#[test]
fn an_index_cannot_refer_to_files_outside_its_folder() {
    let index = |file: &str| json!({ "weight_map": { "w": file } }).to_string();
    let outside = TempDir::new().unwrap();
    let secret = outside.path().join("secret.safetensors");
    fs::write(&secret, "secret").unwrap();
    let absolute = secret.to_str().unwrap();
    let tiny = sharded();
    for wrong in [
        index("../mixer.safetensors"),
        index(absolute),
        "{}".to_owned(),
    ] {
        fs::write(tiny.path("llm/model.safetensors.index.json"), wrong).unwrap();
        tiny.generate()
            .finish()
            .failed(1, &["model.safetensors.index.json"]);
    }
    for file in ["../mixer.safetensors", absolute] {
        let published = PublishedModel::new();
        published.server.add(
            REPO,
            "llm/model.safetensors.index.json",
            index(file),
            FileKind::Small,
        );
        published.tiny.replace(
            "registry.toml",
            "llm/model.safetensors\"",
            "llm/model.safetensors.index.json\"",
        );
        published
            .generate()
            .finish()
            .failed(1, &["model.safetensors.index.json"]);
        let requests = published.server.seen();
        let outside = |path: &str| path.contains("..") || path.contains("secret");
        assert!(
            !requests.iter().any(|seen| outside(&seen.path)),
            "{file}: {requests:?}"
        );
    }
    #[cfg(unix)]
    {
        let tiny = sharded();
        fs::remove_file(tiny.path("llm/model-2-of-2.safetensors")).unwrap();
        std::os::unix::fs::symlink(&secret, tiny.path("llm/model-2-of-2.safetensors")).unwrap();
        tiny.generate()
            .finish()
            .failed(1, &["model-2-of-2.safetensors", "link"]);
    }
}
