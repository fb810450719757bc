//! A registry against the config that is published beside a mixer's checkpoint.

use super::{PublishedModel, REPO, tokens};
use merv_tests::{FileKind, Tiny, root};
use serde_json::{Value, json};
use std::fs;

/// Adds the checkpoint where MERV stores it, with a config next to it.
fn with_config(published: &PublishedModel, config: &Value) {
    let mixer = fs::read(root().join("tests/fixtures/lively/mixer.safetensors")).unwrap();
    let file = "lively/checkpoints/latest-checkpoint.safetensors";
    published.server.add(REPO, file, mixer, FileKind::Large);
    let config = config.to_string();
    published
        .server
        .add(REPO, "lively/config.json", config, FileKind::Small);
    let here = "file = \"mixer.safetensors\"";
    let there = format!("file = \"{file}\"");
    published.tiny.replace("registry.toml", here, &there);
}

#[test]
fn the_published_config_is_compared_before_large_downloads() {
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
    let published = PublishedModel::new();
    with_config(&published, &json!({ "model": model }));
    let config = "in hf://merv/tiny/lively/config.json";
    let words = [
        "8 problems".to_owned(),
        format!("dinov2-video, the value of `video_backbone_ids` {config}"),
        "found: dinov2-video-all-tokens".to_owned(),
        format!("8, the value of `num_frames` {config}"),
        format!("\"letterbox\", the value of `image_resize_strategy` {config}"),
        "found: \"resize-naive\"".to_owned(),
        "`projector` in [mixer]".to_owned(),
        format!("\"concat_channel\", the value of `feature_fusion` {config}"),
        format!("64, the value of `projector_token_length` {config}"),
        format!("1024, the value of `visual_feature_length` {config}"),
        format!("2048, the value of `llm_max_length` {config}"),
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
    // Now the config is in the cache.
    let info = published.online(published.tiny.run()).arg("info");
    info.arg("--offline").finish().failed(1, &["8 problems"]);
    // The check can be turned off.
    published
        .tiny
        .replace("registry.toml", "[mixer]", "[mixer]\ncheck_config = false");
    published.generate().finish().succeeded();
}

#[test]
fn a_matching_config_and_an_unrelated_one_are_accepted() {
    let published = PublishedModel::new();
    let here = Tiny::new().generate().arg("--json").finish().succeeded();
    let model = json!({
        "video_backbone_ids": [
            "languagebind-video-noclass", "dinov2-video-all-tokens",
            "vivit-google-b-all-no-cls-16frames", "siglip-vit-b16-224px-all-no-cls",
        ],
        "image_resize_strategy": "resize-naive",
        "num_frames": [16, 16, 32, 16],
        // Whether the projectors were aligned first does not affect the model.
        "arch_specifier": "no-align+3davg+linear",
        "projector_token_length": 16,
        "visual_feature_length": 256,
        "feature_fusion": null,
    });
    with_config(&published, &json!({ "model": model, "dataset": {} }));
    let found = published.generate().finish().succeeded();
    assert_eq!(tokens(&found.stdout), tokens(&here.stdout));

    let other = PublishedModel::new();
    with_config(&other, &json!({ "model_type": "something else" }));
    other.generate().finish().succeeded();
}
