//! The registries that are part of the program. Each can be resolved, and `info` describes it without loading or
//! downloading anything.

use merv_host::{
    prompt::PromptFormat,
    registry::{PromptEntry, Registry, WeightSource},
};
use merv_tests::{HubServer, Run, root};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path, sync::Arc};
use tempfile::TempDir;

/// Files that exist in their repositories on the hub.
const PUBLISHED: [(&str, &str); 16] = [
    ("LanguageBind/LanguageBind_Video_merge", "pytorch_model.bin"),
    (
        "timm/vit_large_patch14_reg4_dinov2.lvd142m",
        "model.safetensors",
    ),
    ("google/vivit-b-16x2-kinetics400", "pytorch_model.bin"),
    ("timm/ViT-B-16-SigLIP", "open_clip_model.safetensors"),
    (
        "facebook/hiera_base_plus_16x224.mae_k400_ft_k400",
        "model.safetensors",
    ),
    ("meta-llama/Llama-2-7b-hf", "tokenizer.json"),
    (
        "meta-llama/Llama-3.1-8B-Instruct",
        "model.safetensors.index.json",
    ),
    ("meta-llama/Llama-3.1-8B-Instruct", "tokenizer.json"),
    ("Qwen/Qwen2.5-7B-Instruct", "model.safetensors.index.json"),
    (
        "tyleryzhu/merv",
        "merv-full/checkpoints/latest-checkpoint.pt",
    ),
    (
        "tyleryzhu/merv",
        "merv-frozen/checkpoints/latest-checkpoint.pt",
    ),
    (
        "tyleryzhu/merv",
        "languagebind-single/checkpoints/latest-checkpoint.pt",
    ),
    (
        "tyleryzhu/merv",
        "dinov2-single/checkpoints/latest-checkpoint.pt",
    ),
    (
        "tyleryzhu/merv",
        "vivit-single/checkpoints/latest-checkpoint.pt",
    ),
    (
        "tyleryzhu/merv",
        "siglip-single/checkpoints/latest-checkpoint.pt",
    ),
    ("Qwen/Qwen2.5-7B-Instruct", "tokenizer.json"),
];

/// The plugin that is built outside the workspace.
const HIERA: &str = "plugins/hiera/target/release/libmerv_hiera.so";

fn names() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("registry")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let registries = paths.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    registries
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Loads a registry. If its plugin is not built, loads a copy with an empty file instead of the plugin.
fn resolve(name: &str) -> Registry {
    let file = format!("registry/{name}.toml");
    let text = fs::read_to_string(root().join(&file)).unwrap();
    let registry = if text.contains(HIERA) {
        let folder = TempDir::new().unwrap();
        let (copy, plugin) = (folder.path().join(&file), folder.path().join(HIERA));
        for path in [&copy, &plugin] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(&plugin, "").unwrap();
        fs::write(&copy, text).unwrap();
        Registry::load(copy)
    } else {
        Registry::load(root().join(file))
    };
    registry.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_can_be_resolved_and_uses_published_files() {
    let names = names();
    for name in &names {
        let registry = resolve(name);
        assert_eq!(&registry.id, name);
        assert!(!registry.description.is_empty());
        assert!(
            registry.license.is_some(),
            "{name} does not state a licence"
        );
        for source in registry.sources() {
            let WeightSource::Hub { repo, file, .. } = source else {
                continue;
            };
            assert!(
                PUBLISHED.contains(&(repo, file)) || repo.starts_with("your-name/"),
                "{name}: {source} is not in the list of published files"
            );
        }
        // Chat models use their own formats, the published models that of base models.
        let format = match registry.llm.id.split('-').next() {
            Some("llama3.1") => PromptFormat::Llama3,
            Some("qwen2.5") => PromptFormat::Qwen25,
            _ => PromptFormat::Pure,
        };
        assert_eq!(registry.llm.prompt, PromptEntry::Format(format), "{name}");
        let kind = (
            registry.mixer.kind.token_length,
            registry.mixer.kind.visual_feature_length,
        );
        let expected = match name.as_str() {
            "merv-tiny" => (16, 128),
            "merv-hiera" => (16, 256),
            _ => (64, 1024),
        };
        assert_eq!(kind, expected, "{name}");
    }
    for (name, encoder) in [
        ("languagebind-single", "languagebind-video-noclass"),
        ("dinov2-single", "dinov2-video-all-tokens"),
        ("vivit-single", "vivit-google-b-all-no-cls-16frames"),
        ("siglip-single", "siglip-vit-b16-224px-all-no-cls"),
    ] {
        let encoders = resolve(name).encoders;
        assert_eq!(encoders.len(), 1);
        assert_eq!(encoders[0].id, encoder);
    }
}

#[test]
fn info_describes_each_without_requests() {
    let (server, home) = (HubServer::new(), Arc::new(TempDir::new().unwrap()));
    for name in names() {
        if name == "merv-hiera" && !Path::new(&root().join(HIERA)).is_file() {
            continue;
        }
        let run = Run::new()
            .keeping(&home)
            .env("HF_HOME", home.path())
            .env("HF_ENDPOINT", server.endpoint())
            .env("HF_HUB_OFFLINE", "0")
            .args(["--registry", &name, "info", "--json"]);
        let report: Value = serde_json::from_str(&run.finish().succeeded().stdout).unwrap();
        assert_eq!(report["id"], name);
        let encoders = report["encoders"].as_array().unwrap();
        let registry = resolve(&name);
        let ids = registry.encoders.iter().map(|encoder| encoder.id.as_str());
        assert!(
            ids.eq(encoders
                .iter()
                .map(|encoder| encoder["id"].as_str().unwrap()))
        );
        assert_eq!(
            report["visual_tokens"],
            registry.mixer.kind.visual_feature_length
        );
    }
    assert_eq!(server.seen(), []);
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        0,
        "info wrote to the cache"
    );
}

#[test]
fn the_readme_lists_all() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let models = readme
        .split("## Models\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next());
    let models = models.expect("README.md has a section on models");
    let rows = models
        .lines()
        .skip_while(|line| !line.starts_with("| name |"))
        .skip(2);
    let cells = rows
        .take_while(|line| line.starts_with('|'))
        .filter_map(|row| row.split('|').nth(1));
    let listed = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned));
    assert_eq!(listed.collect::<BTreeSet<_>>(), names());
}
