//! Damaged and missing files of a run.

use super::{STEPS, short, short_resumed, uninterrupted};
use merv_tests::{Run, small_clip, tiny_with_one_encoder};
use std::fs;

#[test]
fn a_damaged_checkpoint_is_skipped() {
    let tiny = tiny_with_one_encoder();
    let (digests, ..) = uninterrupted(&tiny, "align");
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let path = run.checkpoint(STEPS).join("mixer.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    // Also with `-q`, which shows only problems.
    let finished = short_resumed(&run).arg("-q").finish().succeeded();
    for word in ["step 8 is not used", "mixer.safetensors is damaged"] {
        assert!(finished.stderr.contains(word), "{finished}");
    }
    assert_eq!(run.digests(STEPS), digests);
}

#[test]
fn a_damaged_registry_is_refused_and_can_be_regenerated() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let path = run.out().join("registry.toml");
    let whole = fs::read_to_string(&path).unwrap();
    let generate = || {
        let run = Run::new().arg("--registry").arg(&path);
        run.args(["generate", "--prompt", "What?", "--video"])
            .arg(small_clip())
            .finish()
    };
    generate().succeeded();
    fs::write(
        &path,
        whole.replacen("num_frames = 16", "num_frames = 8", 1),
    )
    .unwrap();
    let words = [
        "registry.toml",
        "checksum does not match",
        "--resume --out RUN",
    ];
    generate().failed(1, &words);
    run.resumed().arg("--dry-run").finish().succeeded();
    let resumed = run.resumed().arg("-q").finish().succeeded();
    assert!(resumed.stderr.contains("it is written again"), "{resumed}");
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    fs::remove_file(&path).unwrap();
    let resumed = run.resumed().finish().succeeded();
    assert!(resumed.stderr.contains("it is written again"), "{resumed}");
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    // Without the checksum, the file may be edited.
    let end = whole.rfind("# crc32").unwrap();
    fs::write(
        &path,
        whole[..end].replacen("num_frames = 16", "num_frames = 8", 1),
    )
    .unwrap();
    generate().failed(1, &["num_frames"]);
}

#[test]
fn the_advice_about_a_damaged_checkpoint_is_to_resume() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let path = run.checkpoint(STEPS).join("mixer.safetensors");
    let whole = fs::read(&path).unwrap();
    let ask = || {
        let ask = Run::new()
            .arg("--registry")
            .arg(run.out().join("registry.toml"));
        ask.args(["generate", "--prompt", "?", "--video"])
            .arg(small_clip())
            .finish()
    };
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, changed).unwrap();
    ask().failed(
        1,
        &["mixer.safetensors", "sha256", "train --resume --out RUN"],
    );
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    ask().failed(1, &["mixer.safetensors", "resume the run"]);
}

#[test]
fn missing_files_of_a_run_are_reported() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let metrics = run.out().join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let cut: String = text
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&metrics, cut).unwrap();
    let resumed = run.resumed().arg("-q").finish().succeeded();
    let words = "metrics.jsonl: 5 of the 8 completed steps have no line";
    assert!(resumed.stderr.contains(words), "{resumed}");
    fs::remove_file(&metrics).unwrap();
    let resumed = run.resumed().finish().succeeded();
    let words = "metrics.jsonl: 8 of the 8 completed steps have no line";
    assert!(resumed.stderr.contains(words), "{resumed}");
    fs::remove_dir_all(run.out().join("checkpoints")).unwrap();
    let words = [
        "checkpoints",
        "all of them are missing",
        "restore the folder",
    ];
    run.resumed().arg("--dry-run").finish().failed(1, &words);
    run.resumed().finish().failed(1, &words);
    assert!(!run.out().join("checkpoints").exists());
}

#[test]
fn a_file_with_the_name_of_a_checkpoint_is_refused_before_training() {
    let tiny = tiny_with_one_encoder();
    let run = short(&tiny, "align");
    run.run().finish().succeeded();
    let stray = run.out().join("checkpoints/step-00000098");
    fs::write(&stray, "notes").unwrap();
    let words = ["step-00000098", "not a folder", "remove it"];
    for more in [&["--dry-run"][..], &["--set", "epochs=3"]] {
        run.resumed().args(more).finish().failed(1, &words);
    }
    fs::remove_file(&stray).unwrap();
    run.resumed()
        .args(["--set", "epochs=3"])
        .finish()
        .succeeded();
}
