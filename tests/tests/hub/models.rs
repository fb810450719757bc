//! Whole models whose files are on a hub, as the program loads them.

use merv_tests::{Fault, HubServer, Kept, Run, TOKEN, Tiny, edit, root, sha256};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};
use tempfile::TempDir;

const REPO: &str = "merv/tiny";

/// the lively model with all of its files on a hub.
struct Published {
    server: HubServer,
    home: Arc<TempDir>,
    tiny: Tiny,
}

/// Every file of the lively model, as the hub has it.
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

impl Published {
    fn new() -> Self {
        let published = Self {
            server: HubServer::new(),
            home: Arc::new(TempDir::new().unwrap()),
            tiny: Tiny::new(),
        };
        for file in FILES.into_iter().chain(["llm/tokenizer.json"]) {
            let content = fs::read(published.tiny.path(file)).unwrap();
            let kept = if file.ends_with(".json") {
                Kept::Small
            } else {
                Kept::Large
            };
            published.server.add(REPO, file, content, kept);
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

    /// Lets a run ask the hub.
    fn online(&self, run: Run) -> Run {
        run.keeping(&self.home)
            .env("HF_HOME", self.home.path())
            .env("HF_ENDPOINT", self.server.endpoint())
            .env("HF_HUB_OFFLINE", "0")
    }

    fn generate(&self) -> Run {
        self.online(self.tiny.generate()).arg("--json")
    }

    /// Which files were downloaded.
    fn downloads(&self) -> Vec<String> {
        let seen = self.server.seen().into_iter();
        let content = seen.filter(|seen| {
            seen.method == "GET" && (seen.storage || seen.path.starts_with("/api/resolve-cache/"))
        });
        content.map(|seen| seen.path).collect()
    }
}

/// What a run answered.
fn tokens(stdout: &str) -> Value {
    let reply: Value = serde_json::from_str(stdout).unwrap();
    reply["tokens"].clone()
}

#[test]
fn a_model_from_the_hub_answers_as_the_same_model_does_here() {
    let published = Published::new();
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

    // From the cache, asking nobody; quietly.
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
fn offline_everything_that_is_missing_is_told() {
    let published = Published::new();
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
fn what_is_refused_is_told_together_before_anything_is_downloaded() {
    let published = Published::new();
    published
        .server
        .add("meta/llama", "tokenizer.json", "{}", Kept::Small);
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
    run.failed(1, &["tokenizer.json", "is no tokenizer"]);
}

#[test]
fn parts_that_do_not_fit_are_told_before_weights_are_downloaded() {
    let published = Published::new();
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
fn without_a_network_one_message_is_enough() {
    let published = Published::new();
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
    let published = Published::new();
    let info = || published.online(published.tiny.run().arg("info"));
    info().finish().failed(
        1,
        &[
            "hf://merv/tiny/siglip/config.json",
            "is not in the cache",
            "this command downloads nothing",
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
    let published = Published::new();
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
                "sizes of a GGUF model are in its file",
            ],
        );
    assert_eq!(published.server.seen(), []);

    // It is downloaded before anything is described, the other weights after.
    published
        .server
        .add(REPO, "llm/model.gguf", "no GGUF", Kept::Large);
    published.generate().finish().failed(1, &["model.gguf"]);
    let gguf = format!("/blob/{}?signature=s", sha256(b"no GGUF"));
    let downloads = published.downloads();
    assert!(downloads.contains(&gguf), "{downloads:?}");
    let weights = downloads.iter().filter(|path| path.starts_with("/blob/"));
    assert_eq!(weights.count(), 1, "{downloads:?}");
}

#[test]
fn a_wrong_digest_in_the_registry_is_told() {
    let published = Published::new();
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
fn programs_that_load_at_once_download_once() {
    let published = Published::new();
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
    // Small files and what two parts share may be asked for twice; large files never are.
    let large = downloads.iter().filter(|path| path.starts_with("/blob/"));
    assert_eq!(large.count(), 6, "{downloads:?}");
}

/// Splits a safetensors file in two; returns the index that names both.
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

/// the lively model with its language model in two shards on this machine.
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

    let published = Published::new();
    for file in [
        "model.safetensors.index.json",
        "model-1-of-2.safetensors",
        "model-2-of-2.safetensors",
    ] {
        let content = fs::read(tiny.path(&format!("llm/{file}"))).unwrap();
        let kept = if file.ends_with(".json") {
            Kept::Small
        } else {
            Kept::Large
        };
        published
            .server
            .add(REPO, &format!("llm/{file}"), content, kept);
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

    // A mixer is one file.
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
fn a_shard_that_is_missing_is_named() {
    let tiny = sharded();
    fs::remove_file(tiny.path("llm/model-2-of-2.safetensors")).unwrap();
    tiny.generate()
        .finish()
        .failed(1, &["model-2-of-2.safetensors"]);
}

#[test]
fn an_index_does_not_lead_out_of_its_folder() {
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
        let published = Published::new();
        published.server.add(
            REPO,
            "llm/model.safetensors.index.json",
            index(file),
            Kept::Small,
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
        let asked = published.server.seen();
        let outside = |path: &str| path.contains("..") || path.contains("secret");
        assert!(
            !asked.iter().any(|seen| outside(&seen.path)),
            "{file}: {asked:?}"
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

/// The checkpoint where MERV keeps one, and the config beside it.
fn with_config(published: &Published, config: &Value) {
    let mixer = fs::read(root().join("tests/fixtures/lively/mixer.safetensors")).unwrap();
    let file = "lively/checkpoints/latest-checkpoint.safetensors";
    published.server.add(REPO, file, mixer, Kept::Large);
    let config = config.to_string();
    published
        .server
        .add(REPO, "lively/config.json", config, Kept::Small);
    let here = "file = \"mixer.safetensors\"";
    let there = format!("file = \"{file}\"");
    published.tiny.replace("registry.toml", here, &there);
}

#[test]
fn what_is_published_beside_a_checkpoint_is_compared_before_anything_large_is_fetched() {
    let model = json!({
        "video_backbone_ids": [
            "languagebind-video-noclass", "dinov2-video", "vivit-google-b-all-no-cls-16frames",
            "siglip-vit-b16-224px-all-no-cls",
        ],
        "image_resize_strategy": "letterbox",
        "num_frames": [16, 16, 32, 8],
        "arch_specifier": "no-align+3davg+gelu-mlp",
        "feature_fusion": "concat_channel",
        "projector_token_length": 64,
        "visual_feature_length": 1024,
        "llm_max_length": 2048,
    });
    let published = Published::new();
    with_config(&published, &json!({ "model": model }));
    let config = "in hf://merv/tiny/lively/config.json says";
    let words = [
        "8 problems".to_owned(),
        format!("dinov2-video, as `video_backbone_ids` {config}"),
        "found: dinov2-video-all-tokens".to_owned(),
        format!("8, as `num_frames` {config}"),
        format!("\"letterbox\", as `image_resize_strategy` {config}"),
        "found: \"resize-naive\"".to_owned(),
        "`projector` in [mixer]".to_owned(),
        format!("\"concat_channel\", as `feature_fusion` {config}"),
        format!("64, as `projector_token_length` {config}"),
        format!("1024, as `visual_feature_length` {config}"),
        format!("2048, as `llm_max_length` {config}"),
        "do: write 64 as `token_length`".to_owned(),
        "check_config = false".to_owned(),
    ];
    published.generate().finish().failed(1, &words);
    let downloads = published.downloads();
    assert_eq!(downloads.len(), 1, "{downloads:?}");
    assert!(
        downloads[0].ends_with("lively/config.json"),
        "{downloads:?}"
    );
    // From now on without asking.
    let info = published.online(published.tiny.run()).arg("info");
    info.arg("--offline").finish().failed(1, &["8 problems"]);
    // On purpose.
    published
        .tiny
        .replace("registry.toml", "[mixer]", "[mixer]\ncheck_config = false");
    published.generate().finish().succeeded();
}

#[test]
fn a_registry_as_published_is_accepted_and_so_is_one_without_a_config() {
    let published = Published::new();
    let here = Tiny::new().generate().arg("--json").finish().succeeded();
    let model = json!({
        "video_backbone_ids": [
            "languagebind-video-noclass", "dinov2-video-all-tokens",
            "vivit-google-b-all-no-cls-16frames", "siglip-vit-b16-224px-all-no-cls",
        ],
        "image_resize_strategy": "resize-naive",
        "num_frames": [16, 16, 32, 16],
        // Whether the projectors were aligned first does not change the model.
        "arch_specifier": "no-align+3davg+linear",
        "projector_token_length": 16,
        "visual_feature_length": 256,
        "feature_fusion": null,
    });
    with_config(&published, &json!({ "model": model, "dataset": {} }));
    let found = published.generate().finish().succeeded();
    assert_eq!(tokens(&found.stdout), tokens(&here.stdout));

    let other = Published::new();
    with_config(&other, &json!({ "model_type": "something else" }));
    other.generate().finish().succeeded();
}

#[test]
fn of_several_files_the_first_that_the_hub_has_is_taken() {
    let published = Published::new();
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
    // The cache has the second: it is taken, online without asking whether there is a first by now.
    published
        .server
        .add(REPO, "siglip/open_clip_model.safetensors", "?", Kept::Large);
    for run in [published.generate(), published.generate().arg("--offline")] {
        let again = run.finish().succeeded();
        assert_eq!(tokens(&again.stdout), tokens(&here.stdout));
    }
    assert_eq!(published.server.seen(), []);

    let none = Published::new();
    let neither = "file = [\"siglip/a.bin\", \"siglip/b.bin\"]";
    none.tiny.replace("registry.toml", one, neither);
    let words = ["has no file `hf://merv/tiny/siglip/a.bin or siglip/b.bin`"];
    none.generate().finish().failed(1, &words);
}
