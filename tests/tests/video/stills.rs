//! Images, animations, folders of images, pipes and addresses as videos.

use merv_tests::{Run, ask_about, assert_cases, fixture, small_clip};
use std::{fs, path::Path, sync::Arc, time::Instant};
use tempfile::{TempDir, tempdir};

fn folder() -> Arc<TempDir> {
    Arc::new(tempdir().unwrap())
}

fn json(run: Run) -> serde_json::Value {
    let finished = run.arg("--json").finish().succeeded();
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn pipes_are_read_like_files() {
    let clip = small_clip();
    let expected = json(ask_about(&clip));
    let at = folder();
    let pipe = at.path().join("pipe");
    let fill = format!(
        "mkfifo {pipe}; cat {clip} >{pipe} &",
        pipe = pipe.display(),
        clip = clip.display()
    );
    let through = |video: &Path, then: &str| {
        let _ = fs::remove_file(&pipe);
        ask_about(video)
            .keeping(&at)
            .after_shell(&format!("{fill} {then}"))
    };
    let redirect = format!(" exec <{}", pipe.display());
    for (video, then) in [
        (Path::new("-"), &*redirect),
        (Path::new("/dev/stdin"), &*redirect),
        (Path::new("/dev/fd/0"), &*redirect),
        (&*pipe, ":"),
    ] {
        let found = json(through(video, then));
        for part in ["text", "mixer_weights"] {
            assert_eq!(found[part], expected[part], "{}", video.display());
        }
    }
    let file = json(ask_about("-").input(&fs::read(&clip).unwrap()));
    assert_eq!(file["text"], expected["text"]);

    let limited = through(&pipe, ":").args(["--max-pipe-bytes", "1000"]);
    let name = pipe.display().to_string();
    limited
        .finish()
        .failed(1, &[&*name, "--max-pipe-bytes", "1001", "1000"]);
    ask_about("-")
        .input(b"no video")
        .finish()
        .failed(1, &["-: not a video"]);
    ask_about("-")
        .input(b"")
        .finish()
        .failed(1, &["-: the file is empty"]);
}

#[test]
fn endless_pipes_that_are_not_videos_are_refused() {
    let at = folder();
    let started = Instant::now();
    for (input, word) in [
        ("exec </dev/urandom", ""),
        ("exec </dev/zero", "-: not a video"),
    ] {
        let run = ask_about("-").keeping(&at).after_shell(input).finish();
        run.failed(1, &["-: ", word]);
    }
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    let inside = format!("exec <{}", at.path().display());
    let words = ["standard input is a folder", "instead of `-`"];
    ask_about("-")
        .after_shell(&inside)
        .finish()
        .failed(1, &words);
}

#[test]
fn no_image_in_a_folder_is_skipped_silently() {
    let at = folder();
    let put = |name: &str, from: &str| fs::copy(fixture(from), at.path().join(name)).unwrap();
    put("1.png", "video/still.png");
    put("3.png", "video/still.png");
    ask_about(at.path()).finish().succeeded();
    let two = |name: &str| at.path().join(name);
    std::os::unix::fs::symlink("gone.png", two("2.png")).unwrap();
    let words = ["2.png", "a link whose target does not exist"];
    ask_about(at.path()).finish().failed(1, &words);
    fs::remove_file(two("2.png")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(two("2.jpg"))
        .status();
    assert!(made.unwrap().success());
    ask_about(at.path())
        .finish()
        .failed(1, &["2.jpg", "not an image"]);
    fs::remove_file(two("2.jpg")).unwrap();
    put("2.gif", "video/motion.gif");
    ask_about(at.path())
        .finish()
        .failed(1, &["2.gif", "an animation in a folder"]);
    fs::remove_file(two("2.gif")).unwrap();
    fs::write(two("2.heic"), "").unwrap();
    let words = ["2.heic", "not supported in folders", "convert it"];
    ask_about(at.path()).finish().failed(1, &words);
    fs::remove_file(two("2.heic")).unwrap();
    for name in ["2.png", "2.heic"] {
        fs::create_dir(two(name)).unwrap();
        ask_about(at.path())
            .finish()
            .failed(1, &[name, "not an image"]);
        fs::remove_dir(two(name)).unwrap();
    }
    // A GIF with one image is one frame.
    let still =
        b"GIF89a\x02\0\x01\0\x80\0\0\xff\0\0\0\0\xff\x2c\0\0\0\0\x02\0\x01\0\0\x02\x02\x04\x0a\0;";
    fs::write(two("2.gif"), still).unwrap();
    ask_about(at.path()).finish().succeeded();
    let alone = ask_about(two("gone")).finish();
    alone.failed(1, &["gone: no such file or folder"]);
}

#[test]
fn a_conversation_and_a_video_do_not_share_standard_input() {
    for name in ["-", "/dev/stdin"] {
        let run = Run::new().args(["chat", "--video", name]).input(b"hello\n");
        run.finish()
            .failed(1, &["the messages are read from standard input"]);
    }
}

#[test]
fn unsupported_formats_are_refused_with_the_supported_ones() {
    let at = folder();
    let write = |name: &str, bytes: &[u8]| {
        let path = at.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let jpeg = fs::read(fixture("video/still.jpg")).unwrap();
    let cases = [
        (
            ask_about("http://example.com/a.mp4"),
            vec!["http://example.com/a.mp4", "download the video"],
        ),
        (
            ask_about("s3://bucket/clip.mp4"),
            vec!["URLs are not downloaded"],
        ),
        (
            ask_about(write("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")),
            vec!["HEIC", "JPEG, PNG", "TIFF"],
        ),
        (
            ask_about(write("a.ppm", b"P6\n1 1\n255\nabc")),
            vec!["PPM", "JPEG, PNG"],
        ),
        (
            ask_about(write("cut.jpg", &jpeg[..jpeg.len() - 2])),
            vec!["cut.jpg", "JPEG", "cut short"],
        ),
        (
            ask_about(fixture("video/still.png")).args(["--start", "1"]),
            vec!["still.png", "has no duration"],
        ),
        (
            ask_about(fixture("video/frames")).args(["--start", "1"]),
            vec!["frames", "--folder-fps"],
        ),
    ];
    assert_cases(cases.map(|(run, words)| {
        let words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        (words[0].clone(), run.finish().check_failed(1, &words))
    }));
}

#[test]
fn the_frame_rate_of_a_folder_can_be_set() {
    let run = ask_about(fixture("video/frames")).args([
        "--folder-fps",
        "3",
        "--start",
        "1",
        "--end",
        "2",
    ]);
    let part = json(run)["mixer_weights"].clone();
    let whole = json(ask_about(fixture("video/frames")))["mixer_weights"].clone();
    assert!(part.is_object() && part != whole, "{part}");
}

#[test]
fn skipped_files_in_folders_of_videos_are_counted() {
    let at = folder();
    let clip = fs::read(small_clip()).unwrap();
    let elsewhere = folder();
    fs::write(elsewhere.path().join("linked.M2TS"), &clip).unwrap();
    for name in ["a.m2ts", "b.mp4", "c.y4x", "._b.mp4", "notes.txt"] {
        fs::write(at.path().join(name), &clip).unwrap();
    }
    std::os::unix::fs::symlink(elsewhere.path(), at.path().join("link")).unwrap();
    std::os::unix::fs::symlink(at.path(), at.path().join("loop")).unwrap();
    let run = Run::new()
        .args(["encode", "--json", "--videos"])
        .arg(at.path());
    let run = run
        .arg("--out")
        .arg(elsewhere.path().join("features"))
        .finish();
    let run = run.succeeded();
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["clips"], 3, "{report}");
    for skipped in ["1 .y4x", "1 .txt", "1 .mp4"] {
        assert!(run.stderr.contains(skipped), "{}", run.stderr);
    }
    let pipe = at.path().join("pipe");
    let run = Run::new()
        .args(["encode", "--video"])
        .arg(&pipe)
        .arg("--out");
    let run = run.arg(elsewhere.path().join("features"));
    let run = run.after_shell(&format!("mkfifo {}", pipe.display()));
    run.finish().failed(1, &["a pipe or a device"]);
}

#[test]
fn too_little_memory_for_an_image_is_reported() {
    let at = folder();
    let path = at.path().join("large.png");
    let side = 6300;
    let file = fs::File::create(&path).unwrap();
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Sixteen);
    let mut writer = encoder.write_header().unwrap();
    let pixels = vec![0; side as usize * side as usize * 6];
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    drop(pixels);

    ask_about(&path).finish().succeeded();
    let mut reported = 0;
    for kilobytes in [
        1_350_000, 1_250_000, 1_150_000, 1_000_000, 700_000, 500_000, 300_000,
    ] {
        let finished = ask_about(&path)
            .after_shell(&format!("ulimit -v {kilobytes}"))
            .finish();
        match finished.code {
            Some(0) => {}
            Some(1) => {
                let texts = ["large.png: memory ran out", "large.png: out of memory"];
                let named = texts.iter().any(|text| finished.stderr.contains(text));
                reported += usize::from(named);
            }
            // Memory ran out elsewhere: in threads, plugins or weights.
            _ => assert!(!finished.stderr.contains("large.png"), "{finished:?}"),
        }
    }
    assert!(reported > 0);
}
