//! The promises of `docs/files.md` about the files that commands write and read again, in case of a second process, a
//! kill, a full disk and a flipped byte. This file has the cases that concern single commands.

mod commands;
mod flipped_byte;
mod full_disk;
mod kill;
mod places;
mod second_process;

use merv_tests::{Run, Tiny, TrainingRun, small_clip, tiny_with_one_encoder};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A short run of training with one encoder.
fn short(tiny: &Tiny) -> TrainingRun {
    TrainingRun::new("align")
        .arg("--registry")
        .arg(tiny.registry().display().to_string())
        .set("max_steps", 2)
        .set("save_every", 1)
}

/// A file in a folder whose name ends with `ending`.
fn first_file(folder: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let mut found = files.filter(|path| path.to_string_lossy().ends_with(ending));
    found.next().unwrap()
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_features_are_reported_and_not_used() {
    let tiny = tiny_with_one_encoder();
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let run = || {
        short(&tiny).set(
            "feature_cache",
            format!("{:?}", cache.display().to_string()),
        )
    };
    let (first, second) = (run(), run());
    first.run().finish().succeeded();
    flip_last_byte(&first_file(&cache.join("shards"), ".safetensors"));
    let finished = second.run().finish().succeeded();
    assert!(finished.stderr.contains("checksum"), "{finished}");
    assert_eq!(second.curve("loss"), first.curve("loss"));
}

#[test]
fn a_damaged_trained_mixer_is_not_used() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny);
    run.run().finish().succeeded();
    let last = run
        .out()
        .join("checkpoints/step-00000002/mixer.safetensors");
    flip_last_byte(&last);
    let generate = Run::new()
        .arg("--registry")
        .arg(run.out().join("registry.toml"))
        .args([
            "generate",
            "--prompt",
            "x",
            "--max-new-tokens",
            "1",
            "--video",
        ])
        .arg(small_clip());
    generate
        .finish()
        .failed(1, &["mixer.safetensors", "sha256"]);
}

#[test]
fn a_dump_never_replaces_an_input() {
    let tiny = Tiny::new();
    let folder = TempDir::new().unwrap();
    let video = folder.path().join("v.mp4");
    fs::copy(small_clip(), &video).unwrap();
    let link = folder.path().join("link.safetensors");
    fs::hard_link(&video, &link).unwrap();
    let registry = tiny.registry();
    for dump in [&video, &link, &registry] {
        let before = fs::read(dump).unwrap();
        let run = tiny.run().args(["generate", "--prompt", "x", "--video"]);
        let run = run.arg(&video).arg("--dump").arg(dump);
        run.finish()
            .failed(1, &["would be overwritten", "choose another output file"]);
        assert_eq!(fs::read(dump).unwrap(), before);
    }
}

#[test]
fn exceeding_a_file_size_limit_is_an_error_that_names_the_file() {
    let tiny = Tiny::new();
    let folder = TempDir::new().unwrap();
    let dump = folder.path().join("dump.safetensors");
    let run = tiny.generate().arg("--dump").arg(&dump);
    // The answer is streamed before the dump is written.
    let finished = run.after_shell("ulimit -f 1").finish();
    assert_eq!(finished.code, Some(1), "{finished}");
    for word in ["dump.safetensors", "ulimit -f"] {
        assert!(finished.stderr.contains(word), "{finished}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
