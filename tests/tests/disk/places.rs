//! Output paths that cannot be written, and one that can.

use merv_tests::{Run, ask_about, assert_cases, small_clip};
use std::fs;
use tempfile::TempDir;

#[test]
fn paths_that_cannot_be_written_are_refused() {
    let folder = TempDir::new().unwrap();
    for path in [
        folder.path().to_owned(),
        folder.path().join("nowhere/dump.safetensors"),
    ] {
        let run = ask_about(small_clip())
            .args(["--json", "--dump"])
            .arg(&path)
            .finish();
        run.failed(1, &[&path.display().to_string(), "cannot be written"]);
    }
    let run = ask_about(small_clip())
        .args(["--dump", "/dev/full"])
        .finish();
    run.failed(
        1,
        &["/dev/full", "choose another path: something else is there"],
    );
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "a partial file remains");
}

#[test]
fn a_dangling_link_is_written_through() {
    let folder = TempDir::new().unwrap();
    let (link, place) = (folder.path().join("link"), folder.path().join("dump"));
    std::os::unix::fs::symlink("dump", &link).unwrap();
    let run = ask_about(small_clip()).arg("--dump").arg(&link);
    run.finish().succeeded();
    assert!(link.is_symlink() && place.is_file());
}

#[test]
fn names_that_are_too_long_are_reported() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("features").display().to_string();
    let long = "a".repeat(300);
    let train = [
        "train",
        "--config",
        "configs/merv-tiny.toml",
        "--stage",
        "align",
    ];
    let set = "data=tests/fixtures/training_runs/data.json";
    let cases: [(&str, Vec<&str>); 5] = [
        ("video", vec!["generate", "--prompt", "?", "--video", &long]),
        (
            "train",
            [&train[..], &["--set", set, "--out", &long]].concat(),
        ),
        ("encode", vec!["encode", "--out", &out, "--video", &long]),
        (
            "features",
            vec!["encode", "--video", "assets/shapes.mp4", "--out", &long],
        ),
        ("plot", vec!["plot", &long]),
    ];
    assert_cases(cases.map(|(case, arguments)| {
        let run = Run::new().args(&arguments).finish();
        (
            case.to_owned(),
            run.check_failed(1, &["a name in it is too long"]),
        )
    }));
}
