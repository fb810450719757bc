//! Limits on memory. When memory runs out in the host, in a plugin or in FFmpeg, the program exits with code 1, reports
//! the cause, does not blame a clip, and does not leave partial files.

use merv_tests::{Finished, Run, root, small_clip};
use std::{fs, path::Path};
use tempfile::{TempDir, tempdir};

/// Kilobytes of address space. The smallest is hardly more than the program itself needs. Which of them are enough for
/// a run differs between machines.
const LIMITS: [u32; 10] = [
    320_000, 360_000, 400_000, 440_000, 480_000, 540_000, 600_000, 660_000, 720_000, 800_000,
];

/// Writes clips and questions about them.
fn data() -> TempDir {
    let folder = tempdir().unwrap();
    let synth = Run::new().args(["synth", "--clips", "2", "--out"]);
    synth.arg(folder.path().join("d")).finish().succeeded();
    folder
}

/// Runs a command with a memory limit, and checks that it succeeds or reports that memory ran out.
fn limited(run: Run, kilobytes: u32) -> Finished {
    let finished = run.after_shell(&format!("ulimit -v {kilobytes}")).finish();
    let reported =
        finished.stderr.contains("memory ran out while") && finished.stderr.contains("do: raise");
    let is_fine = finished.code == Some(0) || (finished.code == Some(1) && reported);
    assert!(is_fine, "{kilobytes}: {finished}");
    for blame in [
        "skipped",
        "fetch the file",
        "download the file",
        "cannot be used",
        "panicked",
    ] {
        assert!(!finished.stderr.contains(blame), "{kilobytes}: {finished}");
    }
    finished
}

/// Runs a command with each limit, each time with a different output folder.
fn sweep(command: impl Fn(&Path, &Path) -> Run, left: impl Fn(&Path)) {
    let data = data();
    let mut failures = 0;
    for limit in LIMITS {
        let out = data.path().join(limit.to_string());
        let finished = limited(command(&data.path().join("d"), &out), limit);
        failures += u32::from(finished.code == Some(1));
        left(&out);
    }
    assert!(failures > 0, "every limit was high enough");
}

/// Checks that a folder and those below it do not contain incomplete files.
fn assert_no_partial_files(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            assert_no_partial_files(&entry.path());
        } else if entry
            .path()
            .extension()
            .is_some_and(|end| end == "safetensors")
        {
            let bytes = fs::read(entry.path()).unwrap();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let text = str::from_utf8(&bytes[8..8 + header]).unwrap();
            assert!(text.contains("data_offsets"), "{:?}", entry.path());
        }
    }
}

#[test]
fn train_reports_it() {
    let command = |data: &Path, out: &Path| {
        let set = format!("data={}", data.join("captions.json").display());
        let run = Run::new().args(["--threads", "2", "train", "--stage", "align", "--config"]);
        run.arg(root().join("configs/merv-tiny.toml"))
            .args([
                "--set",
                &set,
                "--set",
                "max_steps=1",
                "--set",
                "global_batch=2",
            ])
            .arg("--out")
            .arg(out)
    };
    sweep(command, assert_no_partial_files);
}

#[test]
fn encode_reports_it() {
    let command = |data: &Path, out: &Path| {
        let run = Run::new().args(["--threads", "2", "encode", "--videos"]);
        run.arg(data.join("videos")).arg("--out").arg(out)
    };
    sweep(command, assert_no_partial_files);
}

#[test]
fn eval_reports_it() {
    let command = |data: &Path, out: &Path| {
        let run = Run::new().args(["--threads", "2", "eval", "mcq", "--benchmark", "shapes-mcq"]);
        let run = run.args(["--max-new-tokens", "1", "--data-dir"]);
        run.arg(data.join("eval_data")).arg("--out").arg(out)
    };
    sweep(command, |out| {
        // No question is recorded as failed, so the next run asks it again.
        let failed = fs::read_dir(out).into_iter().flatten().flatten();
        let mut names = failed.map(|entry| entry.file_name().into_string().unwrap());
        assert!(!names.any(|name| name.contains("failed")), "{out:?}");
    });
}

#[test]
fn generate_reports_it() {
    let command = |_: &Path, out: &Path| {
        fs::create_dir(out).unwrap();
        let run = Run::new().args(["--threads", "2", "generate", "--prompt", "x", "--video"]);
        let run = run
            .arg(small_clip())
            .args(["--max-new-tokens", "1", "--dump"]);
        run.arg(out.join("dump.safetensors"))
    };
    sweep(command, assert_no_partial_files);
}
