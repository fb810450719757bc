//! Loading a model whose files are on the hub, in the cache, or missing.

use super::{FILES, PublishedModel, REPO, tokens};
use merv_tests::{Fault, FileKind, Run, TOKEN, Tiny, root, sha256, small_clip};
use std::{collections::BTreeSet, fs, thread, time::Duration};

#[test]
fn a_model_from_the_hub_answers_like_the_local_one() {
    let published = PublishedModel::new();
    let here = Tiny::new().generate().arg("--json").finish().succeeded();
    let first = published.generate().finish().succeeded();
    assert_eq!(tokens(&first.stdout), tokens(&here.stdout));
    assert!(
        first
            .stderr
            .contains("fetching hf://merv/tiny/llm/model.safetensors (2."),
        "{first}"
    );
    assert_eq!(published.downloads().len(), 12);

    // From the cache, without requests and without messages.
    let again = published
        .generate()
        .arg("--offline")
        .arg("--quiet")
        .finish()
        .succeeded();
    assert_eq!(tokens(&again.stdout), tokens(&here.stdout));
    assert_eq!(again.stderr, "");
    let variable = published
        .generate()
        .env("HF_HUB_OFFLINE", "1")
        .finish()
        .succeeded();
    assert_eq!(tokens(&variable.stdout), tokens(&here.stdout));
    assert_eq!(published.server.seen(), []);
}

#[test]
fn offline_all_missing_files_are_listed() {
    let published = PublishedModel::new();
    let run = published.generate().arg("--offline").finish();
    let mut words: Vec<String> = FILES
        .iter()
        .map(|file| format!("hf://merv/tiny/{file}"))
        .collect();
    words.extend(
        [
            "hf://merv/tiny/llm/tokenizer.json",
            "12 problems",
            "--offline",
        ]
        .map(str::to_owned),
    );
    words.push("hf download merv/tiny mixer.safetensors".to_owned());
    run.failed(1, &words);
    assert_eq!(published.server.seen(), []);
}

#[test]
fn refusals_are_reported_together_before_any_download() {
    let published = PublishedModel::new();
    published
        .server
        .add("meta/llama", "tokenizer.json", "{}", FileKind::Small);
    published.server.gate("meta/llama");
    published.tiny.replace(
        "registry.toml",
        "prompt = \"pure\"",
        "prompt = \"pure\"\ntokenizer = { repo = \"meta/llama\", file = \"tokenizer.json\" }",
    );
    published.tiny.replace(
        "registry.toml",
        "\"vivit/model.safetensors\"",
        "\"vivit/model.bin\"",
    );
    published.generate().finish().failed(
        1,
        &[
            "2 problems",
            "hf://meta/llama/tokenizer.json",
            "gated",
            "/meta/llama",
            "HF_TOKEN",
            "hf://merv/tiny/vivit/model.bin",
            "has no file",
        ],
    );
    assert_eq!(published.downloads(), Vec::<String>::new());

    published.tiny.replace(
        "registry.toml",
        "\"vivit/model.bin\"",
        "\"vivit/model.safetensors\"",
    );
    let run = published.generate().env("HF_TOKEN", TOKEN).finish();
    run.failed(1, &["tokenizer.json", "is not a valid tokenizer"]);
}

#[test]
fn inconsistent_settings_are_reported_before_weights_are_downloaded() {
    let published = PublishedModel::new();
    published
        .tiny
        .replace("registry.toml", "token_length = 16", "token_length = 9");
    published.tiny.replace(
        "registry.toml",
        "visual_feature_length = 256",
        "visual_feature_length = 9",
    );
    published
        .generate()
        .finish()
        .failed(1, &["visual_feature_length"]);
    let configs = published.downloads();
    assert!(
        configs.iter().all(|path| path.ends_with("config.json")),
        "{configs:?}"
    );
}

#[test]
fn a_missing_network_is_reported_once() {
    let published = PublishedModel::new();
    let run = published
        .generate()
        .env("HF_ENDPOINT", "http://127.0.0.1:1")
        .finish();
    assert!(!run.stderr.contains("problems"), "{run}");
    run.failed(
        1,
        &[
            "the hub cannot be reached",
            "http://127.0.0.1:1",
            "--offline",
            "because: ",
        ],
    );
}

#[test]
fn info_downloads_nothing() {
    let published = PublishedModel::new();
    let info = || published.online(published.tiny.run().arg("info"));
    info().finish().failed(
        1,
        &[
            "hf://merv/tiny/siglip/config.json",
            "is not in the cache",
            "this command does not download files",
        ],
    );
    assert_eq!(published.server.seen(), []);
    published.generate().finish().succeeded();
    published.server.seen();
    let shown = info().finish().succeeded();
    assert!(
        shown
            .stdout
            .contains("hf://merv/tiny/siglip/model.safetensors"),
        "{shown}"
    );
    assert_eq!(published.server.seen(), []);
}

#[test]
fn the_sizes_of_a_gguf_model_are_in_its_file() {
    let published = PublishedModel::new();
    published.tiny.replace(
        "registry.toml",
        "\"llm/model.safetensors\"",
        "\"llm/model.gguf\"",
    );
    let config = "\nconfig = { repo = \"merv/tiny\", file = \"llm/config.json\" }";
    published.tiny.replace("registry.toml", config, "");
    published
        .online(published.tiny.run().arg("info"))
        .finish()
        .failed(
            1,
            &[
                "hf://merv/tiny/llm/model.gguf",
                "is not in the cache",
                "it contains the sizes of the model",
            ],
        );
    assert_eq!(published.server.seen(), []);

    // The GGUF file is downloaded before the model is described, and the other weights afterwards.
    published
        .server
        .add(REPO, "llm/model.gguf", "no GGUF", FileKind::Large);
    published.generate().finish().failed(1, &["model.gguf"]);
    let gguf = format!("/blob/{}?signature=s", sha256(b"no GGUF"));
    let downloads = published.downloads();
    assert!(downloads.contains(&gguf), "{downloads:?}");
    let weights = downloads.iter().filter(|path| path.starts_with("/blob/"));
    assert_eq!(weights.count(), 1, "{downloads:?}");
}

#[test]
fn a_wrong_digest_in_the_registry_is_reported() {
    let published = PublishedModel::new();
    let wrong = "a".repeat(64);
    published.tiny.replace(
        "registry.toml",
        "file = \"mixer.safetensors\"",
        &format!("file = \"mixer.safetensors\", sha256 = \"{wrong}\""),
    );
    let found = sha256(&fs::read(root().join("tests/fixtures/lively/mixer.safetensors")).unwrap());
    published
        .generate()
        .finish()
        .failed(1, &["mixer.safetensors", &wrong, &found]);
}

#[test]
fn concurrent_programs_download_once() {
    let published = PublishedModel::new();
    published
        .server
        .fail([Fault::Slow(Duration::from_millis(200))]);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| published.generate().finish().succeeded());
        }
    });
    let downloads = published.downloads();
    let different: BTreeSet<&String> = downloads.iter().collect();
    assert_eq!(different.len(), 12);
    // Small files, and files that two parts share, may be requested twice, but large files only once.
    let large = downloads.iter().filter(|path| path.starts_with("/blob/"));
    assert_eq!(large.count(), 6, "{downloads:?}");
}

#[test]
fn the_first_available_file_of_a_list_is_used() {
    let published = PublishedModel::new();
    let here = Tiny::new().generate().arg("--json").finish().succeeded();
    let one = "file = \"siglip/model.safetensors\"";
    let several = "file = [\"siglip/open_clip_model.safetensors\", \"siglip/model.safetensors\"]";
    published.tiny.replace("registry.toml", one, several);
    let offline = published.generate().arg("--offline").finish();
    offline.failed(
        1,
        &["siglip/open_clip_model.safetensors or siglip/model.safetensors"],
    );
    let first = published.generate().finish().succeeded();
    assert_eq!(tokens(&first.stdout), tokens(&here.stdout));
    assert_eq!(published.downloads().len(), 12);
    // The second file is in the cache, so it is used without checking whether the first exists by now.
    published.server.add(
        REPO,
        "siglip/open_clip_model.safetensors",
        "?",
        FileKind::Large,
    );
    for run in [published.generate(), published.generate().arg("--offline")] {
        let again = run.finish().succeeded();
        assert_eq!(tokens(&again.stdout), tokens(&here.stdout));
    }
    assert_eq!(published.server.seen(), []);

    let none = PublishedModel::new();
    let neither = "file = [\"siglip/a.bin\", \"siglip/b.bin\"]";
    none.tiny.replace("registry.toml", one, neither);
    let words = ["has no file `hf://merv/tiny/siglip/a.bin or siglip/b.bin`"];
    none.generate().finish().failed(1, &words);
}

/// An invalid token or address is an error only if the hub is needed.
#[test]
fn settings_of_the_hub_are_checked_only_when_it_is_used() {
    for (variable, value) in [
        ("HF_TOKEN", "hf_ä"),
        ("HF_TOKEN", " "),
        ("HF_ENDPOINT", "not an address"),
    ] {
        let tiny = Tiny::new();
        tiny.generate().env(variable, value).finish().succeeded();
        let info = Run::new().args(["--registry", "merv-full", "info"]);
        info.env(variable, value).finish().succeeded();
        let asked = Run::new().args(["--registry", "merv-full", "generate", "--video"]);
        let asked = asked.arg(small_clip()).args(["--prompt", "What?"]);
        let asked = asked.env(variable, value).env("HF_HUB_OFFLINE", "0");
        asked
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .finish()
            .failed(1, &[variable]);
    }
}
