//! Files nested so deeply that a recursive parser would overflow the stack. Each is refused quickly.

use merv_tests::{Run, Tiny, small_clip};
use std::{
    fs,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// More levels than fit on a stack of 8 MiB.
const LEVELS: usize = 400_000;

#[track_caller]
fn refused(what: &str, run: Run) {
    let started = Instant::now();
    let run = run.finish();
    // A signal would leave no exit code.
    assert_eq!(run.code, Some(1), "{what}: {run}");
    assert!(run.stderr.contains("error: "), "{what}: {run}");
    assert!(
        run.stderr.len() < 20_000,
        "{what}: {} bytes",
        run.stderr.len()
    );
    assert!(started.elapsed() < Duration::from_secs(10), "{what}");
}

/// Deeply nested JSON, complete and cut off.
fn json() -> [String; 4] {
    let lists = "[".repeat(LEVELS) + &"]".repeat(LEVELS);
    let maps = "{\"a\":".repeat(LEVELS) + "1" + &"}".repeat(LEVELS);
    [lists, maps, "[".repeat(LEVELS), "{\"a\":".repeat(LEVELS)]
}

#[test]
fn deep_json_of_a_model_is_refused() {
    for text in json() {
        for file in [
            "llm/config.json",
            "siglip/config.json",
            "llm/tokenizer.json",
        ] {
            let tiny = Tiny::new();
            fs::write(tiny.path(file), &text).unwrap();
            refused(file, tiny.generate());
        }
        let tiny = Tiny::new();
        fs::write(tiny.path("llm/tokenizer_config.json"), &text).unwrap();
        let prompt = "prompt = { template = \"llm/tokenizer_config.json\" }";
        tiny.replace("registry.toml", "prompt = \"pure\"", prompt);
        refused("a template", tiny.generate());
        // A safetensors header is its length followed by JSON.
        let tiny = Tiny::new();
        let header = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        fs::write(tiny.path("mixer.safetensors"), &header).unwrap();
        refused("a mixer", tiny.generate());
        fs::write(tiny.path("llm/model.safetensors"), &header).unwrap();
        refused("a language model", tiny.generate());
    }
}

#[test]
fn deep_json_of_data_is_refused() {
    for text in json() {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data.json");
        fs::write(&data, &text).unwrap();
        let out = folder.path().join("out");
        let encode = Tiny::new().run().arg("encode").arg("--data").arg(&data);
        refused("examples", encode.arg("--out").arg(&out));
        let benchmark = folder.path().join("bench");
        fs::create_dir_all(benchmark.join("videos")).unwrap();
        fs::write(benchmark.join("test_q.json"), &text).unwrap();
        fs::write(benchmark.join("test_a.json"), &text).unwrap();
        let eval =
            Tiny::new()
                .run()
                .args(["eval", "open-ended", "--benchmark", "bench", "--data-dir"]);
        let eval = eval.arg(folder.path()).arg("--out").arg(&out);
        refused("a benchmark", eval);
        let index = folder.path().join("model.safetensors.index.json");
        fs::write(&index, &text).unwrap();
        let convert = Run::new()
            .arg("convert")
            .arg(&index)
            .arg("--out")
            .arg(folder.path().join("x"));
        refused("an index of shards", convert);
    }
}

#[test]
fn deep_toml_is_refused() {
    let dotted = |joined: &str| vec!["a"; LEVELS].join(joined);
    for text in [
        format!("a = {}{}", "[".repeat(LEVELS), "]".repeat(LEVELS)),
        format!("a = {}1{}", "{a = ".repeat(LEVELS), "}".repeat(LEVELS)),
        format!("a = {}", "[".repeat(LEVELS)),
        format!("a = {}", "{a = ".repeat(LEVELS)),
        format!("{} = 1", dotted(".")),
        format!("[{}]", dotted(".")),
        format!("[[{}]]", dotted(".")),
        format!("a = {{ {} = 1 }}", dotted(".")),
        format!("a = {}", "\"\"\"".repeat(LEVELS)),
    ] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, &text).unwrap();
        let start: String = text.chars().take(8).collect();
        let generate = Run::new().arg("--registry").arg(&path);
        let generate = generate.args(["generate", "--prompt", "?", "--video"]);
        refused(&start, generate.arg(small_clip()));
        let train = Run::new().args(["train", "--stage", "align", "--dry-run", "--config"]);
        refused(&start, train.arg(&path));
    }
}
