//! Unreadable video files, time windows, and limits on sizes.

use merv_tests::{ask_about, assert_all_fail, clip, fixture, small_clip};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

#[test]
fn unreadable_videos_are_refused() {
    let folder = TempDir::new().unwrap();
    let made = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(clip()).unwrap();
    let cut = |name: &str, length: usize| made(name, &whole[..length]);
    let empty_folder = folder.path().join("no images");
    fs::create_dir(&empty_folder).unwrap();
    let cases: Vec<(PathBuf, &[&str])> = vec![
        (
            folder.path().join("nowhere.mp4"),
            &["no such file", "check the path"],
        ),
        (made("empty.mp4", b""), &["empty", "download it again"]),
        (
            made("text.mp4", b"Not a video at all, but a note about one.\n"),
            &["not a video"],
        ),
        (cut("cut to 30 bytes.mp4", 30), &["cut short", "download"]),
        (
            cut("cut in half.mp4", whole.len() / 2),
            &["download the file again"],
        ),
        (
            cut("cut by a tenth.mp4", whole.len() / 10 * 9),
            &["download the file again"],
        ),
        (empty_folder, &["does not contain images"]),
        (
            fixture("video/sound.m4a"),
            &["does not contain a video", "use a file with video"],
        ),
        (fixture("video/empty.mp4"), &["empty"]),
        (
            fixture("video/cut_no_index.mp4"),
            &["download the file again"],
        ),
        (
            fixture("video/cut_with_index.mp4"),
            &["download the file again"],
        ),
        (fixture("video/playlist.mp4"), &["not a video"]),
        (fixture("video/concat.mp4"), &["not a video"]),
        (fixture("e2e/io.safetensors"), &["not a video"]),
        (PathBuf::from("/dev/null"), &["a device or socket"]),
    ];
    assert_all_fail(
        1,
        cases.into_iter().map(|(path, words)| {
            let path_text = path.display().to_string();
            let words = words
                .iter()
                .map(|&word| word.to_owned())
                .chain([path_text.clone()]);
            (path_text, ask_about(&path).finish(), words.collect())
        }),
    );
}

#[test]
fn windows_without_frames_are_refused() {
    let cases: [(&[&str], &[&str]); 3] = [
        (
            &["--start", "3600"],
            &["starts at 3600 s", "choose an earlier start"],
        ),
        (&["--start", "1e300"], &["choose an earlier start"]),
        (
            &["--start", "3600", "--end", "3601"],
            &["choose an earlier start"],
        ),
    ];
    assert_all_fail(
        1,
        cases.map(|(window, words)| {
            let run = ask_about(clip()).args(window).finish();
            (
                window.join(" "),
                run,
                [words, &["bigbuckbunny.mp4"]].concat(),
            )
        }),
    );
}

#[test]
fn windows_with_frames_are_answered() {
    for window in [
        &["--start", "0"][..],
        &["--start", "1", "--end", "1.01"],
        &["--end", "3600"],
    ] {
        ask_about(small_clip()).args(window).finish().succeeded();
    }
}

#[test]
fn every_limit_is_enforced_and_can_be_set() {
    let video = |name: &str| fixture(&format!("video/{name}"));
    let still = video("still.png");
    let cases = [
        (small_clip(), "--max-pixels", "5183"),
        (small_clip(), "--max-frames", "3"),
        (small_clip(), "--max-clip-bytes", "15552"),
        (still.clone(), "--max-pixels", "5"),
        (still.clone(), "--max-image-bytes", "5"),
        (video("motion.gif"), "--max-pixels", "5"),
        (video("motion.gif"), "--max-animation-pixels", "5"),
        (video("motion.gif"), "--max-animation-bytes", "5"),
        (small_clip(), "--max-decoded-pixels", "5"),
        (video("frames"), "--max-frames", "3"),
    ];
    assert_all_fail(
        1,
        cases.iter().map(|(path, flag, limit)| {
            let words = [*flag, "expected at most", limit]
                .map(str::to_owned)
                .to_vec();
            let named = [words, vec![path.file_name().unwrap().display().to_string()]].concat();
            (
                format!("{} {flag}", path.display()),
                ask_about(path).args([*flag, *limit]).finish(),
                named,
            )
        }),
    );
    // Files that declare more than they contain, against the default limits.
    let huge = [
        ("huge.webm", "--max-pixels"),
        ("huge.gif", "--max-pixels"),
        ("huge.png", "--max-pixels"),
        ("many_frames.mp4", "--max-frames"),
    ];
    assert_all_fail(
        1,
        huge.map(|(name, flag)| {
            (
                name.to_owned(),
                ask_about(video(name)).finish(),
                vec![name, flag, "expected at most"],
            )
        }),
    );
    let high = "100000000";
    for flag in [
        "--max-pixels",
        "--max-frames",
        "--max-clip-bytes",
        "--max-image-bytes",
        "--max-animation-pixels",
        "--max-animation-bytes",
        "--max-decoded-pixels",
    ] {
        ask_about(small_clip())
            .args([flag, high])
            .finish()
            .succeeded();
    }
}
