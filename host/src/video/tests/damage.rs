//! Damaged files show the same pictures however they are read.

use std::path::PathBuf;

use super::super::*;

fn fixture(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/video/");
    PathBuf::from(format!("{root}{name}"))
}

/// The fixture's bytes after `damage`, as a file of its ending.
fn damaged(name: &str, damage: impl Fn(&mut Vec<u8>)) -> tempfile::NamedTempFile {
    let mut bytes = fs::read(fixture(name)).unwrap();
    damage(&mut bytes);
    let ending = format!(".{}", name.rsplit('.').next().unwrap());
    let file = tempfile::Builder::new().suffix(&ending).tempfile().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

fn read_with(path: &Path, threads: usize, selection: &Selection) -> Result<Frames, VideoError> {
    let limits = Limits {
        threads,
        ..Limits::default()
    };
    read(path, selection, &limits)
}

/// Frame `index` alone.
fn only(index: usize, fps: f64) -> Selection {
    Selection {
        start: Some((index as f64 + 0.5) / fps),
        seconds: Seconds::AverageRate,
        ..Selection::new(1)
    }
}

/// All frames, in order. The last may turn out not to be a whole one.
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

/// Asserts that every frame alone is what it is among all others, with any number of threads. How many
/// were compared.
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

/// The decoder tells of the damage, but shows the pictures.
#[test]
fn a_sought_frame_after_damage_is_that_of_decoding_in_order() {
    for place in [56, 62, 68, 89] {
        let file = damaged("nopts.avi", |bytes| {
            let from = bytes.len() * place / 100;
            let noise = (0..60_u8).map(|n| n.wrapping_mul(167) ^ 0x5a);
            bytes.splice(from..from + 60, noise);
        });
        assert!(shows_the_same(file.path()) >= 39);
    }
}

/// With several threads the decoder shows another picture now and then, and does not complain then.
#[test]
fn a_decoder_whose_threads_race_gets_one() {
    let path = fixture("streams/damaged_for_b_frames.mkv");
    let all = every(&path, 1);
    // They race where processors are scarce.
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

/// The decoder only notes that there is a gap.
#[test]
fn leading_pictures_are_shown_alike_where_what_they_lean_on_was_lost() {
    let path = fixture("streams/lost_in_open_gop.ts");
    assert_eq!(shows_the_same(&path), 36);
}

/// After a seek, the decoder's order does not contradict the time stamps until the picture after next.
#[test]
fn frames_are_counted_alike_where_the_decoder_gives_another_order() {
    assert_eq!(shows_the_same(&fixture("streams/lost_reference.ts")), 27);
}

/// The decoder says nothing, and leaves what is missing as its memory was.
#[test]
fn a_cut_picture_is_left_out_though_the_decoder_does_not_paint_it() {
    assert_eq!(shows_the_same(&fixture("streams/cut_ffv1.nut")), 12);
}

/// The decoder says nothing, and leaves what is missing as the last picture was.
#[test]
fn a_damaged_key_frame_is_painted_over_the_same_picture() {
    let path = fixture("streams/damaged_key_frame.mov");
    assert_eq!(shows_the_same(&path), 20);
}

/// With what comes before the false key frame the decoder fails for good; it does not begin with it.
#[test]
fn a_decoder_that_fails_for_good_is_given_up() {
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

/// FFmpeg cannot read on where a seek led.
#[test]
fn a_file_that_can_only_be_read_in_order_is_read_in_order() {
    assert_eq!(shows_the_same(&fixture("streams/damaged_filler.mxf")), 30);
}

/// What is done about damage must not cost anything where there is none.
#[test]
fn a_frame_of_a_healthy_file_costs_no_more_than_its_group() {
    // Groups have up to 12 pictures, and a decoder gives some more.
    for (name, from) in [
        ("bframes.mp4", 0),
        ("hevc.mp4", 0),
        ("nopts.avi", 0),
        ("opengop.mkv", 0),
        ("stream.ts", 0),
        ("vfr.mp4", 0),
        ("vp9.webm", 0),
        // Behind what was lost. The decoder complains of leading pictures.
        ("streams/lost_in_open_gop.ts", 16),
    ] {
        let all = every(&fixture(name), 1);
        let pixels = (all.frames[0].width * all.frames[0].height) as u64;
        let limits = Limits {
            threads: 1,
            max_decoded_pixels: 16 * pixels,
            ..Limits::default()
        };
        for (index, frame) in all.frames.iter().enumerate().skip(from) {
            let found = read(&fixture(name), &only(index, all.fps), &limits).unwrap();
            assert!(found.frames[0] == *frame, "{name}, frame {index}");
        }
    }
}

/// The decoder does not complain of it.
#[test]
fn vp8_without_some_packets_is_shown_alike_with_any_number_of_threads() {
    assert_eq!(shows_the_same(&fixture("streams/missing_packets.ivf")), 26);
}

#[test]
fn a_cut_picture_is_left_out_though_the_decoder_does_not_note_it() {
    let whole = every(&fixture("program.mpg"), 1).frames;
    for cut in (40..1200).step_by(97) {
        let file = damaged("program.mpg", |bytes| bytes.truncate(bytes.len() - cut));
        let shown = every(file.path(), 1).frames;
        assert!(shown.len() > 20, "{cut}");
        assert!(
            shown.iter().all(|frame| whole.contains(frame)),
            "a guess is shown after {cut} bytes are gone"
        );
    }
}

/// Boxes of one level: kind, where they begin, where they end.
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
fn of_a_cut_fragmented_mp4_the_whole_frames_are_shown() {
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
        assert!(found.iter().all(is_whole), "{cut}: another frame is shown");
        shown.push(found.len());
    }
    assert!(shown.is_sorted(), "{shown:?}");
    assert!(shown.first() < shown.last(), "{shown:?}");
}
