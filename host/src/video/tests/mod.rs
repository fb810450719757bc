//! Comparison with PyAV, decord, OpenCV and Pillow on real files (`tests/python/make_video_fixtures.py`).

mod damage;
mod stills;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;

fn fixture(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    match name {
        "bigbuckbunny.mp4" => PathBuf::from(format!("{root}/assets/{name}")),
        _ => PathBuf::from(format!("{root}/tests/fixtures/video/{name}")),
    }
}

fn json(name: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(&fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

/// Width, height and digest, as stored in the fixtures.
fn seen(frame: &RgbFrame) -> Value {
    let digest = Sha256::digest(&frame.data);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!([frame.width, frame.height, digest])
}

fn get(name: &str, selection: &Selection) -> Result<Frames, VideoError> {
    read(&fixture(name), selection, &ReadLimits::default())
}

fn fails(name: &str) -> VideoError {
    get(name, &Selection::new(4)).expect_err(name)
}

/// Frames `0..n`.
fn all(n: usize) -> Selection {
    Selection {
        end_frame: Some(n as i64 - 1),
        ..Selection::new(n)
    }
}

/// Only frame `index`.
fn only(index: usize, fps: f64) -> Selection {
    Selection {
        start: Some((index as f64 + 0.5) / fps),
        seconds: Seconds::AverageRate,
        ..Selection::new(1)
    }
}

#[test]
fn every_frame_of_every_container_is_exact() {
    for (name, clip) in json("expected.json") {
        let expected = clip["frames"].as_array().unwrap();
        let found = get(&name, &all(expected.len())).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(found.total_frames, expected.len(), "{name}");
        for (index, (frame, expected)) in found.frames.iter().zip(expected).enumerate() {
            assert_eq!(&seen(frame), expected, "{name}, frame {index}");
        }
        if let Some(fps) = clip["fps"].as_f64() {
            assert!(
                (found.fps - fps).abs() < 1e-9,
                "{name}: {} and {fps}",
                found.fps
            );
        }
    }
}

#[test]
fn every_frame_is_exact_after_seeking() {
    for (name, clip) in json("expected.json") {
        let expected = clip["frames"].as_array().unwrap();
        let step = if expected.len() > 100 { 13 } else { 1 };
        let fps = get(&name, &Selection::new(1)).unwrap().fps;
        for (index, expected) in expected.iter().enumerate().step_by(step) {
            let found = get(&name, &only(index, fps)).unwrap();
            assert_eq!(found.indices, [index], "{name}");
            assert_eq!(&seen(&found.frames[0]), expected, "{name}, frame {index}");
        }
        for num_frames in [2, 3, 5, 7] {
            let found = get(&name, &Selection::new(num_frames)).unwrap();
            for (frame, &index) in found.frames.iter().zip(&found.indices) {
                assert_eq!(
                    seen(frame),
                    expected[index],
                    "{name}, frame {index} of {num_frames}"
                );
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_frames() {
    let expected = json("expected.json");
    for name in [
        "bframes.mp4",
        "opengop.mkv",
        "vp9.webm",
        "nopts_bframes.avi",
    ] {
        for threads in [1, 5] {
            let limits = ReadLimits {
                threads,
                ..ReadLimits::default()
            };
            let found = read(&fixture(name), &Selection::new(9), &limits).unwrap();
            for (frame, &index) in found.frames.iter().zip(&found.indices) {
                assert_eq!(
                    seen(frame),
                    expected[name]["frames"][index],
                    "{name}, frame {index}"
                );
            }
        }
    }
}

#[test]
fn repeated_frames_share_their_pixels() {
    let found = get("full_range.mp4", &Selection::new(32)).unwrap();
    assert_eq!(found.frames.len(), 32);
    assert_eq!(found.indices[0], found.indices[1]);
    assert!(Arc::ptr_eq(&found.frames[0], &found.frames[1]));
}

/// The largest difference between two images.
fn difference(frame: &RgbFrame, image: &Value) -> u8 {
    let size = (
        image["size"][0].as_u64().unwrap(),
        image["size"][1].as_u64().unwrap(),
    );
    assert_eq!((frame.width as u64, frame.height as u64), size);
    let hex = image["rgb"].as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    let differences = frame
        .data
        .iter()
        .enumerate()
        .map(|(at, value)| value.abs_diff(byte(at)));
    differences.max().unwrap()
}

#[test]
fn still_images_are_videos_of_one_repeated_frame() {
    let images = json("images.json");
    let png = get("still.png", &Selection::new(16)).unwrap();
    assert_eq!(difference(&png.frames[0], &images["still.png"]), 0);
    assert_eq!((png.frames.len(), png.total_frames), (16, 1));
    assert!(
        png.frames
            .iter()
            .all(|frame| Arc::ptr_eq(frame, &png.frames[0]))
    );
    let jpg = get("still.jpg", &Selection::new(2)).unwrap();
    let off = difference(&jpg.frames[0], &images["still.jpg"]);
    assert!(off <= JPEG_TOLERANCE, "off by {off}");
}

/// The `image` crate's JPEG decoder rounds differently from libjpeg, which Pillow and OpenCV use.
const JPEG_TOLERANCE: u8 = 4;

#[test]
fn folders_of_images_are_videos() {
    let images = json("images.json");
    let found = get("frames", &Selection::new(7)).unwrap();
    assert_eq!(found.indices, [0, 1, 2, 3, 4, 5, 6]);
    assert!(difference(&found.frames[0], &images["frames/001.jpg"]) <= JPEG_TOLERANCE);
    assert!(difference(&found.frames[6], &images["frames/007.jpg"]) <= JPEG_TOLERANCE);

    let rate = Selection {
        folder_fps: Some(3.0),
        ..Selection::new(4)
    };
    let window = Selection {
        start: Some(1.0),
        end: Some(2.0),
        ..rate
    };
    assert_eq!(get("frames", &window).unwrap().indices, [3, 3, 4, 5]);
    let late = Selection {
        start: Some(2.5),
        ..rate
    };
    assert!(matches!(
        get("frames", &late),
        Err(VideoError::StartPastEnd { .. })
    ));
    let no_rate = Selection {
        folder_fps: None,
        ..window
    };
    assert!(matches!(
        get("frames", &no_rate),
        Err(VideoError::NoFolderRate { .. })
    ));
    let bad_rate = Selection {
        folder_fps: Some(0.0),
        ..window
    };
    assert!(matches!(
        get("frames", &bad_rate),
        Err(VideoError::BadFolderRate { .. })
    ));
}

#[test]
fn a_gif_respects_the_window() {
    let window = Selection {
        start: Some(0.5),
        end: Some(1.0),
        ..Selection::new(5)
    };
    assert_eq!(get("motion.gif", &window).unwrap().indices, [5, 6, 7, 8, 9]);
    let late = Selection {
        start: Some(1.2),
        ..Selection::new(5)
    };
    assert!(matches!(
        get("motion.gif", &late),
        Err(VideoError::StartPastEnd { .. })
    ));
}

#[test]
fn files_that_are_not_videos_are_reported() {
    assert!(matches!(fails("nowhere.mp4"), VideoError::Missing { .. }));
    assert!(matches!(fails("empty.mp4"), VideoError::EmptyFile { .. }));
    assert!(matches!(fails("text.mp4"), VideoError::NotAVideo { .. }));
    let cause = std::error::Error::source(&fails("text.mp4")).map(ToString::to_string);
    assert!(
        cause.is_some_and(|cause| cause.len() > 5),
        "FFmpeg's own message is kept"
    );
    let VideoError::NoVideoStream { found, .. } = fails("sound.m4a") else {
        panic!()
    };
    assert_eq!(found, "audio (aac)");
    let empty = tempfile::tempdir().unwrap();
    let error = read(empty.path(), &Selection::new(1), &ReadLimits::default()).unwrap_err();
    assert!(matches!(error, VideoError::EmptyFolder { .. }));
    let none = get("bframes.mp4", &Selection::new(0));
    assert!(matches!(none, Err(VideoError::NoFramesRequested { .. })));
    for name in [
        "nowhere.mp4",
        "empty.mp4",
        "text.mp4",
        "sound.m4a",
        "cut_no_index.mp4",
    ] {
        assert!(fails(name).to_string().contains(name), "{}", fails(name));
    }
}

/// A playlist would make FFmpeg open other files or URLs.
#[test]
fn a_file_cannot_refer_to_other_files() {
    assert!(matches!(
        fails("playlist.mp4"),
        VideoError::NotAVideo { .. }
    ));
    assert!(matches!(fails("concat.mp4"), VideoError::NotAVideo { .. }));
    let folder = tempfile::tempdir().unwrap();
    for name in ["http:x.mp4", "concat:a|b.mp4", "%03d.mp4", "a b?c#d.mp4"] {
        let path = folder.path().join(name);
        fs::copy(fixture("odd_size.mp4"), &path).unwrap();
        assert_eq!(
            read(&path, &all(8), &ReadLimits::default())
                .unwrap()
                .total_frames,
            8,
            "{name}"
        );
    }
}

#[cfg(unix)]
#[test]
fn file_names_may_be_invalid_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"clip\xff.mp4"));
    fs::copy(fixture("odd_size.mp4"), &path).unwrap();
    assert_eq!(
        read(&path, &all(8), &ReadLimits::default())
            .unwrap()
            .total_frames,
        8
    );
}

#[test]
fn files_that_are_cut_short_are_reported() {
    for name in ["cut_no_index.mp4", "cut_with_index.mp4"] {
        let error = fails(name);
        assert!(
            matches!(error, VideoError::Truncated { .. }),
            "{name}: {error}"
        );
    }
    assert!(matches!(fails("cut.gif"), VideoError::Missing { .. }));
}

#[test]
fn a_damaged_frame_is_reported_and_the_others_are_exact() {
    let expected = &json("expected.json")["bframes.mp4"]["frames"];
    let error = get("damaged.mp4", &all(48)).unwrap_err();
    let VideoError::Damaged {
        frame, total: 48, ..
    } = error
    else {
        panic!("{error}")
    };
    assert!((10..35).contains(&frame), "{error}");
    for index in [0, 5, 11, 47] {
        let found = get("damaged.mp4", &only(index, 25.0)).unwrap();
        assert_eq!(seen(&found.frames[0]), expected[index], "frame {index}");
    }
}

#[test]
fn limits_are_enforced_and_errors_state_the_flag() {
    let flag = |name: &str, limits: &ReadLimits| match read(&fixture(name), &all(8), limits) {
        Err(VideoError::OverLimit { flag, .. }) => flag,
        other => panic!("{name}: {other:?}"),
    };
    let limits = ReadLimits::default();
    for name in ["huge.gif", "huge.png", "huge.webm"] {
        assert_eq!(flag(name, &limits), "--max-pixels", "{name}");
    }
    assert_eq!(flag("many_frames.mp4", &limits), "--max-frames");

    for name in ["bframes.mp4", "motion.gif", "still.jpg", "frames"] {
        let small = ReadLimits {
            max_pixels: 100,
            ..limits
        };
        assert_eq!(flag(name, &small), "--max-pixels", "{name}");
        let small = ReadLimits {
            max_clip_bytes: 1000,
            ..limits
        };
        assert_eq!(flag(name, &small), "--max-clip-bytes", "{name}");
    }
    for name in ["bframes.mp4", "vp9.webm", "motion.gif", "frames"] {
        let few = ReadLimits {
            max_frames: 5,
            ..limits
        };
        assert_eq!(flag(name, &few), "--max-frames", "{name}");
    }
    let small = ReadLimits {
        max_image_bytes: 100,
        ..limits
    };
    assert_eq!(flag("still.jpg", &small), "--max-image-bytes");

    let frame = 96 * 54 * 3;
    let four = ReadLimits {
        max_pixels: 96 * 54,
        max_clip_bytes: 4 * frame,
        ..limits
    };
    assert!(read(&fixture("bframes.mp4"), &Selection::new(4), &four).is_ok());
    assert!(read(&fixture("bframes.mp4"), &Selection::new(5), &four).is_err());
    assert!(read(&fixture("full_range.mp4"), &Selection::new(4), &four).is_ok());
}

#[test]
fn windows_outside_the_video_are_reported() {
    let late = Selection {
        start: Some(2.0),
        ..Selection::new(4)
    };
    let error = get("bframes.mp4", &late).unwrap_err();
    assert!(matches!(error, VideoError::StartPastEnd { .. }), "{error}");
    assert!(error.to_string().contains("1.920 s"), "{error}");
}

/// Compares recordings that were cut, joined or given wrong timestamps with the `ffmpeg` command
/// (`tests/python/make_stream_fixtures.py`). `make test-media` is the long version of this test.
#[test]
fn damaged_streams_give_the_frames_of_ffmpeg() {
    let mut clips = json("streams/expected.json");
    // Whether its last frame is complete is not known before it is decoded.
    clips.remove("cut_in_a_picture.ts");
    for (name, expected) in clips {
        let expected = expected.as_array().unwrap();
        let n = expected.len();
        let name = format!("streams/{name}");
        let found = get(&name, &all(n)).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(found.total_frames, n, "{name}");
        let digests: Vec<Value> = found
            .frames
            .iter()
            .map(|frame| seen(frame)[2].clone())
            .collect();
        assert_eq!(&digests, expected, "{name}");
        for num_frames in [1, 2, 5] {
            let found = get(&name, &Selection::new(num_frames)).unwrap();
            for (frame, &index) in found.frames.iter().zip(&found.indices) {
                assert_eq!(
                    seen(frame)[2],
                    digests[index],
                    "{name}, frame {index} of {num_frames}"
                );
            }
        }
        for index in [n / 3, n / 2, n - 1] {
            let found = get(&name, &only(index, found.fps)).unwrap();
            assert_eq!(found.indices, [index], "{name}");
            assert_eq!(
                seen(&found.frames[0])[2],
                digests[index],
                "{name}, frame {index} alone"
            );
        }
    }
}

/// ffmpeg conceals the missing part of the last frame. The others are complete.
#[test]
fn a_frame_in_which_the_file_is_cut_is_skipped() {
    let expected = &json("streams/expected.json")["cut_in_a_picture.ts"];
    let n = expected.as_array().unwrap().len();
    for threads in [1, 2, 5] {
        let limits = ReadLimits {
            threads,
            ..ReadLimits::default()
        };
        for num_frames in [2, 5, n] {
            let selection = Selection::new(num_frames);
            let path = fixture("streams/cut_in_a_picture.ts");
            let found = read(&path, &selection, &limits).unwrap();
            assert_eq!(found.total_frames, n, "{num_frames} of them");
            assert_eq!(found.indices.last(), Some(&(n - 1)));
            for (frame, &index) in found.frames.iter().zip(&found.indices) {
                assert_eq!(
                    seen(frame)[2],
                    expected[index],
                    "frame {index} of {num_frames}"
                );
            }
        }
    }
}

#[test]
fn an_encrypted_video_is_reported_as_encrypted() {
    let error = fails("streams/encrypted.mp4");
    assert!(matches!(error, VideoError::Encrypted { .. }), "{error}");
    assert!(error.to_string().contains("is encrypted"), "{error}");
}

/// A recursive walk over these boxes would overflow the stack.
#[test]
fn deeply_nested_boxes_do_no_harm() {
    let start = &fs::read(fixture("bframes.mp4")).unwrap()[..32];
    let folder = tempfile::tempdir().unwrap();
    for kind in [b"moov", b"trak", b"udta", b"meta", b"free"] {
        let boxes = (1..=30_000_u32).rev().flat_map(|deep| {
            let size = (8 * deep).to_be_bytes();
            size.into_iter().chain(*kind)
        });
        let path = folder.path().join("deep.mp4");
        fs::write(&path, [start, &boxes.collect::<Vec<_>>()].concat()).unwrap();
        let error = read(&path, &Selection::new(1), &ReadLimits::default()).unwrap_err();
        let deep = error.to_string().contains("levels deep");
        let known = [b"moov", b"trak", b"udta"].contains(&kind);
        assert_eq!(deep, known, "{}: {error}", kind.escape_ascii());
    }
}

/// All nested structures that FFmpeg's demuxers read.
#[test]
fn nesting_in_other_containers_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let try_file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        // The result does not matter, but the call must return.
        let _ = read(&path, &Selection::new(1), &ReadLimits::default());
    };
    // Nested RIFF lists.
    let mut lists = b"RIFF\xff\xff\xff\x7fAVI ".to_vec();
    for deep in (1..=30_000_u32).rev() {
        lists.extend(b"LIST");
        lists.extend((12 * deep).to_le_bytes());
        lists.extend(b"hdrl");
    }
    try_file("deep.avi", &lists);
    // Matroska: nested master elements of unknown size, such as tags and block groups.
    let whole = fs::read(fixture("vp9.webm")).unwrap();
    let segment = whole
        .windows(4)
        .position(|id| id == [0x18, 0x53, 0x80, 0x67])
        .unwrap();
    for master in [
        &[0x18, 0x53, 0x80, 0x67][..],
        &[0x67, 0xc8],
        &[0xb6],
        &[0xa0],
        &[0x19, 0x41, 0xa4, 0x69],
    ] {
        let mut bytes = whole[..segment + 4].to_vec();
        bytes.extend([0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        for _ in 0..30_000 {
            bytes.extend(master);
            bytes.extend([0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        }
        try_file("deep.mkv", &bytes);
    }
    // FLV: script data with nested objects and arrays.
    for value in [
        &b"\x03\0\x01a"[..],
        b"\x08\0\0\0\x01\0\x01a",
        b"\x0a\0\0\0\x01",
    ] {
        let mut script = b"\x02\0\x0aonMetaData".to_vec();
        script.extend(value.repeat(30_000));
        let mut bytes = b"FLV\x01\x01\0\0\0\x09\0\0\0\0\x12".to_vec();
        bytes.extend(&(script.len() as u32).to_be_bytes()[1..]);
        bytes.extend([0; 7]);
        bytes.extend(&script);
        try_file("deep.flv", &bytes);
    }
    // ASF: nested header extensions.
    let header = [
        0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, 0xa6, 0xd9, 0, 0xaa, 0, 0x62, 0xce, 0x6c,
    ];
    let extension = [
        0xb5, 0x03, 0xbf, 0x5f, 0x2e, 0xa9, 0xcf, 0x11, 0x8e, 0xe3, 0, 0xc0, 0x0c, 0x20, 0x53, 0x65,
    ];
    let mut bytes = header.to_vec();
    bytes.extend((30 + 46 * 30_000_u64).to_le_bytes());
    bytes.extend([1, 0, 0, 0, 1, 2]);
    for deep in (1..=30_000_u64).rev() {
        bytes.extend(extension);
        bytes.extend((46 * deep).to_le_bytes());
        bytes.extend([0; 22]);
    }
    try_file("deep.asf", &bytes);
    // NUT and Ogg have no nesting. MXF sets refer to one another only through a table.
}

#[test]
fn frames_of_animations_and_folders_have_times_too() {
    let gif = get("motion.gif", &Selection::new(4)).unwrap();
    // Every picture is shown for a tenth of a second, as ffprobe tells.
    for (&frame, seconds) in gif.indices.iter().zip(&gif.seconds) {
        assert!(
            (seconds - frame as f64 / 10.0).abs() < 1e-9,
            "{frame}: {seconds} s"
        );
    }
    let mut selection = Selection::new(4);
    let unknown = get("frames", &selection).unwrap();
    assert!(unknown.seconds.iter().all(|seconds| seconds.is_nan()));
    selection.folder_fps = Some(2.0);
    let folder = get("frames", &selection).unwrap();
    for (&frame, seconds) in folder.indices.iter().zip(&folder.seconds) {
        assert_eq!(*seconds, frame as f64 / 2.0);
    }
    let still = get("still.jpg", &Selection::new(2)).unwrap();
    assert!(still.seconds.iter().all(|seconds| seconds.is_nan()));
}

#[test]
fn seconds_are_presentation_times() {
    let times = json("streams/seconds.json");
    let times = times["vfr.mp4"].as_array().unwrap();
    let time = |frame: usize| times[frame].as_f64().unwrap();
    let shown_at = |seconds: f64| (0..times.len()).rev().find(|&frame| time(frame) <= seconds);
    for start in [0.0, 0.3, 0.55, 1.0, 1.49, 2.0] {
        let from = Selection {
            start: Some(start),
            ..Selection::new(1)
        };
        let found = get("vfr.mp4", &from).unwrap();
        assert_eq!(Some(found.indices[0]), shown_at(start), "{start} s");
    }
    let window = Selection {
        start: Some(time(5)),
        end: Some(time(20)),
        ..Selection::new(15)
    };
    let found = get("vfr.mp4", &window).unwrap();
    assert_eq!(found.indices, (5..20).collect::<Vec<_>>());
    for (&frame, seconds) in found.indices.iter().zip(&found.seconds) {
        let expected = time(frame) - time(0);
        assert!(
            (seconds - expected).abs() < 1e-6,
            "{frame}: {seconds} s, {expected} s"
        );
    }
    let as_the_original = Selection {
        seconds: Seconds::AverageRate,
        ..window
    };
    assert_ne!(
        get("vfr.mp4", &as_the_original).unwrap().indices,
        found.indices
    );
}
