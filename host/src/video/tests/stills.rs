//! Comparison of images and animations with Pillow (`tests/python/make_still_fixtures.py`), and files that are cut,
//! have wrong headers or are expensive to decode.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::*;

fn fixture(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
    let still = PathBuf::from(format!("{root}/stills/{name}"));
    match still.exists() {
        true => still,
        false => PathBuf::from(format!("{root}/video/{name}")),
    }
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap()
}

fn expected() -> Value {
    serde_json::from_slice(&bytes("../stills/expected.json")).unwrap()
}

/// Width, height and digest, as stored in the fixtures.
fn seen(frame: &RgbFrame) -> Value {
    let digest = Sha256::digest(&frame.data);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!([frame.width, frame.height, digest])
}

/// Reads a file with these bytes. Its name does not indicate the format.
fn read_bytes(bytes: &[u8], selection: &Selection) -> Result<Frames, VideoError> {
    read_named(bytes, "picture", selection, &ReadLimits::default())
}

fn read_named(
    bytes: &[u8],
    name: &str,
    selection: &Selection,
    limits: &ReadLimits,
) -> Result<Frames, VideoError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read(&path, selection, limits)
}

fn one(bytes: &[u8]) -> Result<Frames, VideoError> {
    read_bytes(bytes, &Selection::new(1))
}

/// Frames `0..n`.
fn all(n: usize) -> Selection {
    Selection {
        end_frame: Some(n as i64 - 1),
        ..Selection::new(n)
    }
}

#[test]
fn animations_match_pillow() {
    for (name, frames) in expected()["animations"].as_object().unwrap() {
        let frames = frames.as_array().unwrap();
        let found = read_bytes(&bytes(name), &all(frames.len())).unwrap();
        assert_eq!(found.total_frames, frames.len(), "{name}");
        for (index, (frame, expected)) in found.frames.iter().zip(frames).enumerate() {
            assert_eq!(&seen(frame), expected, "{name}, frame {index}");
        }
        // A single frame depends on fewer patches.
        for (index, expected) in frames.iter().enumerate() {
            let only = Selection {
                start: Some((index as f64 + 0.5) / found.fps),
                ..Selection::new(1)
            };
            let found = read_bytes(&bytes(name), &only).unwrap();
            assert_eq!(found.indices, [index], "{name}");
            assert_eq!(
                &seen(&found.frames[0]),
                expected,
                "{name}, frame {index} alone"
            );
        }
    }
    let found = one(&bytes("blend.apng")).unwrap();
    assert!((found.fps - 7.0 / 0.95).abs() < 1e-9, "{}", found.fps);
}

#[test]
fn stills_match_pillow() {
    for (name, expected) in expected()["stills"].as_object().unwrap() {
        let found = one(&bytes(name)).unwrap();
        assert_eq!(
            (&seen(&found.frames[0]), found.total_frames),
            (expected, 1),
            "{name}"
        );
    }
}

/// Replaces orientation 1 in the file: EXIF tag 0x0112, a 16-bit number.
fn oriented(name: &str, number: u8) -> Vec<u8> {
    let mut bytes = bytes(name);
    let little = [0x12, 1, 3, 0, 1, 0, 0, 0, 1];
    let big = [1, 0x12, 0, 3, 0, 0, 0, 1, 0, 1];
    let places = bytes
        .windows(9)
        .position(|found| found == little)
        .map(|at| at + 8);
    let place = places.or_else(|| {
        bytes
            .windows(10)
            .position(|found| found == big)
            .map(|at| at + 9)
    });
    bytes[place.unwrap_or_else(|| panic!("{name} has an orientation"))] = number;
    bytes
}

#[test]
fn all_exif_orientations_are_read_upright() {
    for (number, picture) in expected()["orientations"].as_object().unwrap() {
        let hex = picture["rgb"].as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        for (name, tolerance) in [
            ("oriented.png", 0),
            ("oriented.webp", 0),
            ("oriented.tif", 0),
            ("oriented.jpg", 12),
        ] {
            let found = one(&oriented(name, number.parse().unwrap())).unwrap();
            let frame = &found.frames[0];
            let size = serde_json::json!([frame.width, frame.height]);
            assert_eq!(size, picture["size"], "{name}, {number}");
            let off = frame
                .data
                .iter()
                .enumerate()
                .map(|(at, value)| value.abs_diff(byte(at)));
            assert!(off.max() <= Some(tolerance), "{name}, {number}");
        }
    }
}

/// In every image format, a file that is cut anywhere is refused as cut, damaged or empty.
#[test]
fn images_that_are_cut_anywhere_are_refused() {
    for name in [
        "still.jpg",
        "oriented.jpg",
        "still.png",
        "blend.apng",
        "plain.png",
        "still.webp",
        "lossless.webp",
        "blend.webp",
        "motion.gif",
        "grey.tif",
        "deflate.tif",
    ] {
        let whole = bytes(name);
        for len in (0..whole.len()).step_by(if whole.len() > 2000 { 37 } else { 3 }) {
            let Err(error) = one(&whole[..len]) else {
                panic!("{name} of {len} bytes of {} is accepted", whole.len());
            };
            let known = matches!(
                error,
                VideoError::Truncated { .. }
                    | VideoError::Image { .. }
                    | VideoError::EmptyFile { .. }
                    | VideoError::NotAVideo { .. }
            );
            assert!(known, "{name} of {len} bytes: {error}");
        }
    }
}

#[test]
fn a_window_over_a_still_is_refused() {
    let window = Selection {
        start: Some(1.0),
        ..Selection::new(2)
    };
    let error = read_bytes(&bytes("still.png"), &window).unwrap_err();
    assert!(matches!(error, VideoError::WindowOfStill { .. }), "{error}");
}

/// A GIF with 1×1 frames on a square canvas.
fn tiny_patches(side: u16, frames: usize, disposal: u8) -> Vec<u8> {
    let mut gif = b"GIF89a".to_vec();
    gif.extend_from_slice(&side.to_le_bytes());
    gif.extend_from_slice(&side.to_le_bytes());
    gif.extend_from_slice(&[0x80, 0, 0, 10, 20, 30, 200, 100, 50]);
    for _ in 0..frames {
        gif.extend_from_slice(&[0x21, 0xf9, 4, disposal << 2, 1, 0, 0, 0]);
        gif.extend_from_slice(&[0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x4c, 1, 0]);
    }
    gif.push(0x3b);
    gif
}

/// A GIF whose patches cover the canvas and are partly transparent, so each depends on all previous ones.
fn whole_patches(side: u16, frames: usize) -> Vec<u8> {
    let mut gif = Vec::new();
    let mut encoder = ::gif::Encoder::new(&mut gif, side, side, &[0, 0, 0, 9, 9, 9]).unwrap();
    let pixels = vec![1; usize::from(side) * usize::from(side)];
    let mut frame = ::gif::Frame::from_indexed_pixels(side, side, pixels, Some(0));
    frame.make_lzw_pre_encoded();
    for _ in 0..frames {
        encoder.write_lzw_pre_encoded_frame(&frame).unwrap();
    }
    drop(encoder);
    gif
}

#[test]
fn small_files_of_animations_have_bounded_cost() {
    let watch = Instant::now();
    let found = read_bytes(&tiny_patches(6000, 60, 1), &Selection::new(2)).unwrap();
    assert_eq!((found.total_frames, found.frames[1].width), (60, 6000));
    for disposal in [1, 2, 3] {
        let found = read_bytes(&tiny_patches(500, 300_000, disposal), &Selection::new(4)).unwrap();
        assert_eq!(found.indices, [0, 99_999, 199_999, 299_999]);
        assert_eq!(&found.frames[3].data[..6], [200, 100, 50, 0, 0, 0]);
    }
    let flag = |result| match result {
        Err(VideoError::OverLimit { flag, .. }) => flag,
        other => panic!("{other:?}"),
    };
    let heavy = whole_patches(6000, 80);
    assert!(heavy.len() < 6_000_000, "{}", heavy.len());
    assert_eq!(
        flag(read_bytes(&heavy, &Selection::new(4))),
        "--max-animation-pixels"
    );
    // Only the work for chosen frames counts.
    assert!(read_bytes(&heavy, &all(2)).is_ok());
    assert!(
        watch.elapsed() < Duration::from_secs(30),
        "{:?}",
        watch.elapsed()
    );
}

/// An animated WebP with 2×2 frames on a square canvas.
fn tiny_webp(side: u32, frames: usize) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let len = (data.len() as u32).to_le_bytes();
        [kind, &len[..], data, &[0][..data.len() % 2]].concat()
    };
    let size = &(side - 1).to_le_bytes()[..3];
    let still = ::image_webp::ColorType::Rgb8;
    let mut picture = Vec::new();
    ::image_webp::WebPEncoder::new(&mut picture)
        .encode(&[9; 12], 2, 2, still)
        .unwrap();
    let frame = [
        &[0; 6][..],
        &[1, 0, 0, 1, 0, 0, 50, 0, 0, 0],
        &picture[12..],
    ]
    .concat();
    let head = chunk(b"VP8X", &[&[2, 0, 0, 0], size, size].concat());
    let all = [
        b"WEBP".to_vec(),
        head,
        chunk(b"ANIM", &[0; 6]),
        chunk(b"ANMF", &frame).repeat(frames),
    ];
    chunk(b"RIFF", &all.concat())
}

#[test]
fn the_frames_of_a_small_animation_do_not_exhaust_memory() {
    let limited = |result: Result<Frames, _>| match result {
        Err(VideoError::OverLimit { flag, .. }) => flag,
        other => panic!("{other:?}"),
    };
    for file in [tiny_webp(6320, 16), tiny_patches(6320, 16, 1)] {
        assert!(file.len() < 1500, "{}", file.len());
        let all = read_bytes(&file, &Selection::new(16));
        assert_eq!(limited(all), "--max-animation-bytes");
        let found = read_bytes(&file, &Selection::new(2)).unwrap();
        assert_eq!((found.total_frames, found.frames[1].width), (16, 6320));
    }
}

#[test]
fn disposals_change_the_canvas_between_frames() {
    // Red everywhere, then one blue pixel that is kept, cleared or restored, then another.
    for (disposal, after) in [(1, [0, 0, 255]), (2, [0, 0, 0]), (3, [255, 0, 0])] {
        let mut gif = b"GIF89a\x02\0\x01\0\x80\0\0\xff\0\0\0\0\xff".to_vec();
        gif.extend_from_slice(b"\x2c\0\0\0\0\x02\0\x01\0\0\x02\x02\x04\x0a\0");
        gif.extend_from_slice(&[0x21, 0xf9, 4, disposal << 2, 1, 0, 0, 0]);
        gif.extend_from_slice(b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0");
        gif.extend_from_slice(b"\x2c\x01\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0;");
        let found = read_bytes(&gif, &all(3)).unwrap();
        assert_eq!(found.frames[0].data, [255, 0, 0, 255, 0, 0], "{disposal}");
        assert_eq!(found.frames[1].data, [0, 0, 255, 255, 0, 0], "{disposal}");
        let last = [after, [0, 0, 255]].concat();
        assert_eq!(found.frames[2].data, last, "{disposal}");
        let alone = Selection {
            start: Some(0.9 * 3.0 / found.fps),
            ..Selection::new(1)
        };
        assert_eq!(
            read_bytes(&gif, &alone).unwrap().frames[0].data,
            last,
            "{disposal}"
        );
    }
}

#[test]
fn unsupported_formats_are_reported_with_the_supported_ones() {
    for (head, name) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"P6\n2 2\n255\n123456789012", "PPM"),
        (b"P5 2 2 255 1234", "PPM"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01", "CR3"),
    ] {
        let error = one(head).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("JPEG, PNG, WebP"),
            "{error}"
        );
        assert!(!error.contains("download"), "{error}");
    }
}

/// A TIFF with one strip of grey 32-bit samples.
fn tiff(width: u16, height: u16, sample_format: u16) -> Vec<u8> {
    let pixels = usize::from(width) * usize::from(height);
    let bytes = (pixels * 4) as u16;
    let entries = [
        (256, width),
        (257, height),
        (258, 32),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (279, bytes),
        (339, sample_format),
    ];
    let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in entries {
        let [tag, value] = [tag, value].map(u16::to_le_bytes);
        file.extend([&tag[..], &[3, 0, 1, 0, 0, 0], &value, &[0, 0]].concat());
    }
    file.extend([0; 4]);
    file.resize(file.len() + pixels * 4, 0);
    file
}

#[test]
fn errors_of_complete_images_do_not_suggest_a_download() {
    let float = one(&tiff(2, 2, 3)).unwrap_err().to_string();
    assert!(
        float.contains("this kind of image is not supported"),
        "{float}"
    );
    let mut bmp = b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.resize(26, 0);
    bmp.extend_from_slice(b"\x01\0\x18\0");
    bmp.resize(54, 0);
    let gif =
        b"GIF89a\0\0\0\0\x80\0\0\x01\x02\x03\x04\x05\x06\x2c\0\0\0\0\0\0\0\0\0\x02\x01\x2c\0;";
    let mut png = bytes("plain.png");
    png[16..24].fill(0);
    let sum = crc32fast::hash(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&sum);
    for file in [&tiff(0, 0, 1)[..], &bmp, gif, &png] {
        let error = one(file).unwrap_err().to_string();
        assert!(error.contains("the image is 0×0"), "{error}");
        assert!(!error.contains("download"), "{error}");
    }
}

#[test]
fn folders_are_sorted_by_the_numbers_in_names() {
    let folder = tempfile::tempdir().unwrap();
    let (red, blue) = (bytes("still.png"), bytes("rgb16.png"));
    for number in 1..=11 {
        let content = if number == 10 { &blue } else { &red };
        fs::write(folder.path().join(format!("frame{number}.png")), content).unwrap();
    }
    for junk in ["._frame1.png", ".DS_Store", "Thumbs.db", "desktop.ini"] {
        let mut file = fs::File::create(folder.path().join(junk)).unwrap();
        file.write_all(b"\0\x05\x16\x07no picture").unwrap();
    }
    let found = read(folder.path(), &Selection::new(11), &ReadLimits::default()).unwrap();
    assert_eq!((found.total_frames, found.frames[9].width), (11, 11));
}

/// Images of other sizes may be appended to a JPEG. The images of a stream have the same size.
#[test]
fn consecutive_jpegs_are_a_video_whatever_the_file_name() {
    let jpeg = bytes("still.jpg");
    assert!(jpeg.len() < 5000);
    for name in ["stream.mjpeg", "stream"] {
        let stream = jpeg.repeat(12);
        let found = read_named(&stream, name, &Selection::new(3), &ReadLimits::default()).unwrap();
        assert_eq!(
            (found.total_frames, found.indices),
            (12, vec![0, 5, 11]),
            "{name}"
        );
    }
    let with_preview = [jpeg, bytes("oriented.jpg")].concat();
    assert_eq!(one(&with_preview).unwrap().total_frames, 1);
}

/// The image is red. The alpha, which has a higher bit rate, is noise.
#[test]
fn the_alpha_of_an_animated_avif_is_not_read_as_its_image() {
    let found = read(&fixture("alpha.avif"), &all(3), &ReadLimits::default()).unwrap();
    assert_eq!(found.total_frames, 3);
    for frame in &found.frames {
        let [red, green, blue] = [0, 1, 2].map(|at| frame.data[at + 3 * 40]);
        assert!(red > 180 && green < 80 && blue < 80, "{red} {green} {blue}");
    }
}

#[test]
fn the_number_of_decoded_pixels_is_bounded() {
    let limits = ReadLimits {
        max_decoded_pixels: 96 * 54 * 20,
        ..ReadLimits::default()
    };
    let ask = |name: &str, selection: &Selection| read(&fixture(name), selection, &limits);
    assert!(ask("bframes.mp4", &Selection::new(1)).is_ok());
    for name in ["bframes.mp4", "nopts_bframes.avi"] {
        let error = ask(name, &all(40)).unwrap_err();
        assert!(
            error.to_string().contains("--max-decoded-pixels"),
            "{name}: {error}"
        );
    }
}

/// Appends a second directory to a TIFF. Its only entry tells whether it is a preview.
fn with_second_page(preview: bool) -> Vec<u8> {
    let mut tiff = bytes("grey.tif");
    let word = |tiff: &[u8], at: usize| u32::from_le_bytes(tiff[at..at + 4].try_into().unwrap());
    let first = word(&tiff, 4) as usize;
    let entries = usize::from(u16::from_le_bytes(
        tiff[first..first + 2].try_into().unwrap(),
    ));
    let link = first + 2 + entries * 12;
    let second = tiff.len() as u32;
    tiff[link..link + 4].copy_from_slice(&second.to_le_bytes());
    tiff.extend_from_slice(&[
        1,
        0,
        254,
        0,
        4,
        0,
        1,
        0,
        0,
        0,
        u8::from(preview),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    tiff
}

#[test]
fn a_tiff_with_several_pages_is_refused() {
    let error = one(&with_second_page(false)).unwrap_err();
    assert!(matches!(error, VideoError::ManyPages { .. }), "{error}");
    assert!(one(&with_second_page(true)).is_ok());
}
