//! Mistakes in registry files, and files that are missing.

use super::weights;
use merv_tests::{Run, Tiny, assert_all_fail};
use std::fs;

#[test]
fn mistakes_in_registries_are_reported() {
    const SIGLIP: &str = "plugin = \"siglip\"";
    const VIVIT_FRAMES: &str = "plugin = \"vivit\"\nnum_frames = 32";
    let cases: [(&str, &str, &[&str]); 17] = [
        (
            SIGLIP,
            "plugin = \"siglib\"",
            &[
                "no plugin `siglib`",
                "did you mean `siglip`?",
                "--plugin-dir",
            ],
        ),
        (
            SIGLIP,
            "plugin = \"dinov2\"",
            &[
                "plugin `dinov2`",
                "siglip-vit-b16-224px-all-no-cls",
                "dinov2-video-all-tokens",
            ],
        ),
        (
            SIGLIP,
            "plugin = \"llama2\"",
            &["plugin `llama2`", "does not provide encoders"],
        ),
        (
            "id = \"llama\"",
            "id = \"llama3\"",
            &[
                "llama3",
                "llama2-7b-pure, llama2-13b-pure,",
                "llama3.1-8b-chat",
            ],
        ),
        (
            VIVIT_FRAMES,
            "plugin = \"vivit\"\nnum_frames = 31",
            &["num_frames", "31"],
        ),
        (
            VIVIT_FRAMES,
            "plugin = \"vivit\"\nnum_frames = 0",
            &["num_frames", "0"],
        ),
        (VIVIT_FRAMES, "plugin = \"vivit\"\nnum_frames = 64", &["64"]),
        (
            VIVIT_FRAMES,
            "plugin = \"vivit\"\nnum_frames = 4000000000000",
            &["num_frames"],
        ),
        (
            "plugin = \"siglip\"\nnum_frames = 16",
            "plugin = \"siglip\"\nnum_frames = 8",
            &["time steps"],
        ),
        (
            "token_length = 16",
            "token_length = 15",
            &["token_length", "square"],
        ),
        (
            "token_length = 16",
            "token_length = 25",
            &["visual_feature_length", "token_length"],
        ),
        (
            "visual_feature_length = 256",
            "visual_feature_length = 128",
            &["visual_feature_length", "256"],
        ),
        (
            "cross_attention_avg_lq",
            "concat_everything",
            &["concat_everything", "expected"],
        ),
        ("prompt = \"pure\"", "prompt = \"pur\"", &["pur", "pure"]),
        (
            "num_frames = 32",
            "num_frame = 32",
            &["num_frame", "do: write `num_frames`"],
        ),
        ("schema = 1", "schema = 1\n[", &["registry.toml:2"]),
        (
            "dinov2/model.safetensors\" }",
            "dinov2/model.safetensors\", sha256 = \"aa\" }",
            &["sha256"],
        ),
    ];
    assert_all_fail(
        1,
        cases.map(|(from, to, words)| {
            let tiny = Tiny::new();
            tiny.replace("registry.toml", from, to);
            (to.to_owned(), tiny.generate().finish(), words.to_vec())
        }),
    );
}

#[test]
fn missing_registries_are_reported() {
    assert_all_fail(
        1,
        ["merv-tinny", "nowhere/x.toml", "/dev/null", "assets"].map(|name| {
            let run = Run::new().args(["--registry", name, "info"]).finish();
            let words = if name == "merv-tinny" {
                vec!["merv-tinny", "did you mean", "`merv-tiny`"]
            } else {
                vec![name]
            };
            (format!("`{name}`"), run, words)
        }),
    );
}

#[test]
fn missing_files_are_reported_with_the_line() {
    let mut files: Vec<String> = weights().map(|(file, _)| file).collect();
    files.push("llm/tokenizer.json".to_owned());
    assert_all_fail(
        1,
        files.into_iter().map(|file| {
            let tiny = Tiny::new();
            let path = tiny.path(&file);
            fs::remove_file(&path).unwrap();
            let words = vec![
                path.display().to_string(),
                "registry.toml:".to_owned(),
                "do: ".to_owned(),
            ];
            (file, tiny.generate().finish(), words)
        }),
    );
}
