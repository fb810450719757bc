//! Damaged files give the same frames no matter how they are read.

use std::path::PathBuf;

use super::super::*;

fn fixture(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/video/");
    PathBuf::from(format!("{root}{name}"))
}

/// Writes the fixture's bytes after `damage` to a file with the same extension.
fn damaged(name: &str, damage: impl Fn(&mut Vec<u8>)) -> tempfile::NamedTempFile {
    let mut bytes = fs::read(fixture(name)).unwrap();
    damage(&mut bytes);
    let ending = format!(".{}", name.rsplit('.').next().unwrap());
    let file = tempfile::Builder::new().suffix(&ending).tempfile().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

fn read_with(path: &Path, threads: usize, selection: &Selection) -> Result<Frames, VideoError> {
    let limits = ReadLimits {
        threads,
        ..ReadLimits::default()
    };
    read(path, selection, &limits)
}

/// Only frame `index`.
fn only(index: usize, fps: f64) -> Selection {
    Selection {
        start: Some((index as f64 + 0.5) / fps),
        seconds: Seconds::AverageRate,
        ..Selection::new(1)
    }
}

/// Reads all frames in order. The last may turn out to be incomplete.
fn every(path: &Path, threads: usize) -> Frames {
    let all = |total| Selection {
        end_frame: Some(i64::MAX),
        ..Selection::new(total)
    };
    let first = read_with(path, threads, &Selection::new(1)).unwrap();
    let found = read_with(path, threads, &all(first.total_frames)).unwrap();
    match found.total_frames < first.total_frames {
        true => read_with(path, threads, &all(found.total_frames)).unwrap(),
        false => found,
    }
}

/// Asserts that each frame read separately equals the same frame read with all others, with any number of threads.
/// Returns the number of frames.
fn shows_the_same(path: &Path) -> usize {
    let all = every(path, 1);
    for threads in [2, 4] {
        let again = every(path, threads);
        assert!(again.frames == all.frames, "{threads} threads");
    }
    for (index, frame) in all.frames.iter().enumerate() {
        let alone = read_with(path, 2, &only(index, all.fps)).unwrap();
        assert_eq!(alone.indices, [index]);
        let total = all.total_frames;
        assert!(alone.frames[0] == *frame, "frame {index} of {total}");
    }
    all.total_frames
}

/// The decoder reports the damage, but returns the frames.
#[test]
fn a_frame_after_damage_is_the_same_after_a_seek() {
    for place in [56, 62, 68, 89] {
        let file = damaged("nopts.avi", |bytes| {
            let from = bytes.len() * place / 100;
            let noise = (0..60_u8).map(|n| n.wrapping_mul(167) ^ 0x5a);
            bytes.splice(from..from + 60, noise);
        });
        assert!(shows_the_same(file.path()) >= 39);
    }
}

/// With several threads, the decoder sometimes returns another frame without an error.
#[test]
fn a_decoder_with_racing_threads_gets_one_thread() {
    let path = fixture("streams/damaged_for_b_frames.mkv");
    let all = every(&path, 1);
    // The race occurs when there are more threads than cores.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..150 {
                    let alone = read_with(&path, 2, &only(17, all.fps)).unwrap();
                    assert!(alone.frames[0] == all.frames[17]);
                }
            });
        }
    });
}

/// The decoder only reports a gap.
#[test]
fn leading_frames_with_lost_references_are_the_same_after_a_seek() {
    let path = fixture("streams/lost_in_open_gop.ts");
    assert_eq!(shows_the_same(&path), 36);
}

/// After a seek, the decoder's order contradicts the timestamps only two frames later.
#[test]
fn frames_are_counted_consistently_if_the_decoder_returns_another_order() {
    assert_eq!(shows_the_same(&fixture("streams/lost_reference.ts")), 27);
}

/// The decoder reports no error and keeps the old contents of its buffer for the missing part.
#[test]
fn a_cut_frame_that_the_decoder_does_not_fill_is_skipped() {
    assert_eq!(shows_the_same(&fixture("streams/cut_ffv1.nut")), 12);
}

/// The decoder reports no error and keeps the previous frame for the missing part.
#[test]
fn a_damaged_key_frame_is_drawn_over_the_same_frame() {
    let path = fixture("streams/damaged_key_frame.mov");
    assert_eq!(shows_the_same(&path), 20);
}

/// The decoder fails permanently when it reads the false key frame after earlier packets.
#[test]
fn a_decoder_that_fails_permanently_is_replaced() {
    let path = fixture("streams/false_size.ivf");
    let at = |indices: &[usize]| {
        let seconds = |index: usize| (index as f64 + 0.5) / 25.0;
        let selection = Selection {
            start: Some(seconds(indices[0])),
            end: indices.get(1).map(|&last| seconds(last + 1)),
            seconds: Seconds::AverageRate,
            ..Selection::new(indices.len())
        };
        let found = read_with(&path, 2, &selection).unwrap();
        assert_eq!(found.indices, indices);
        found.frames
    };
    assert_eq!(at(&[13, 16])[1], at(&[16])[0]);
}

/// FFmpeg cannot continue reading after a seek.
#[test]
fn a_file_without_working_seeks_is_read_in_order() {
    assert_eq!(shows_the_same(&fixture("streams/damaged_filler.mxf")), 30);
}

/// The handling of damage must not slow down files without damage.
#[test]
fn a_frame_of_an_intact_file_costs_no_more_than_its_group() {
    // Groups have up to 12 frames, and a decoder returns a few more.
    for (name, from) in [
        ("bframes.mp4", 0),
        ("hevc.mp4", 0),
        ("nopts.avi", 0),
        ("opengop.mkv", 0),
        ("stream.ts", 0),
        ("vfr.mp4", 0),
        ("vp9.webm", 0),
        // After the lost packets. The decoder reports errors for leading frames.
        ("streams/lost_in_open_gop.ts", 16),
    ] {
        let all = every(&fixture(name), 1);
        let pixels = (all.frames[0].width * all.frames[0].height) as u64;
        let limits = ReadLimits {
            threads: 1,
            max_decoded_pixels: 16 * pixels,
            ..ReadLimits::default()
        };
        for (index, frame) in all.frames.iter().enumerate().skip(from) {
            let found = read(&fixture(name), &only(index, all.fps), &limits).unwrap();
            assert!(found.frames[0] == *frame, "{name}, frame {index}");
        }
    }
}

/// The decoder does not report an error.
#[test]
fn vp8_with_missing_packets_is_the_same_with_any_number_of_threads() {
    assert_eq!(shows_the_same(&fixture("streams/missing_packets.ivf")), 26);
}

#[test]
fn a_cut_frame_that_the_decoder_does_not_flag_is_skipped() {
    let whole = every(&fixture("program.mpg"), 1).frames;
    for cut in (40..1200).step_by(97) {
        let file = damaged("program.mpg", |bytes| bytes.truncate(bytes.len() - cut));
        let shown = every(file.path(), 1).frames;
        assert!(shown.len() > 20, "{cut}");
        assert!(
            shown.iter().all(|frame| whole.contains(frame)),
            "a concealed frame is returned after {cut} bytes were removed"
        );
    }
}

/// The boxes of one level: kind, start and end.
fn boxes(bytes: &[u8]) -> Vec<([u8; 4], usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        found.push((bytes[at + 4..at + 8].try_into().unwrap(), at, at + size));
        at += size;
    }
    found
}

#[test]
fn the_complete_frames_of_a_cut_fragmented_mp4_are_read() {
    let whole = fs::read(fixture("fragments.mp4")).unwrap();
    let every = |bytes: &[u8]| {
        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let all = Selection {
            end_frame: Some(i64::MAX),
            ..Selection::new(1)
        };
        let total = read_with(file.path(), 1, &all)?.total_frames;
        let all = Selection {
            num_frames: total,
            ..all
        };
        read_with(file.path(), 1, &all).map(|found| found.frames)
    };
    let frames = every(&whole).unwrap();
    let starts: Vec<_> = boxes(&whole);
    let moofs: Vec<usize> = starts
        .iter()
        .filter(|(kind, ..)| kind == b"moof")
        .map(|(_, at, _)| *at)
        .collect();
    assert!(moofs.len() >= 3, "{moofs:?}");
    let mut shown = Vec::new();
    for cut in (moofs[1]..whole.len()).step_by(211) {
        let found = every(&whole[..cut]).unwrap_or_else(|error| panic!("{cut}: {error}"));
        assert!(found.len() <= frames.len(), "{cut}");
        let mut rest = frames.iter();
        let is_whole = |frame| rest.any(|whole| whole == frame);
        assert!(
            found.iter().all(is_whole),
            "{cut}: another frame is returned"
        );
        shown.push(found.len());
    }
    assert!(shown.is_sorted(), "{shown:?}");
    assert!(shown.first() < shown.last(), "{shown:?}");
}
