//! Damaged files show the same pictures however they are read.

use std::path::PathBuf;

use super::*;

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

/// Asserts that every frame alone is what it is among all others, with any number of threads. How many
/// were compared.
fn shows_the_same(path: &Path) -> usize {
    let total = read_with(path, 1, &Selection::new(1)).unwrap().total_frames;
    let every = Selection {
        end_frame: Some(i64::MAX),
        ..Selection::new(total)
    };
    let all = read_with(path, 1, &every).unwrap();
    for threads in [2, 4] {
        let again = read_with(path, threads, &every).unwrap();
        assert!(again.frames == all.frames, "{threads} threads");
    }
    for (index, frame) in all.frames.iter().enumerate() {
        let only = Selection {
            start: Some((index as f64 + 0.5) / all.fps),
            seconds: Seconds::AverageRate,
            ..Selection::new(1)
        };
        let alone = read_with(path, 2, &only).unwrap();
        assert_eq!(alone.indices, [index]);
        assert!(alone.frames[0] == *frame, "frame {index} of {total}");
    }
    all.total_frames
}

/// The decoder does not complain of it.
#[test]
fn vp8_without_some_packets_is_shown_alike_with_any_number_of_threads() {
    assert_eq!(shows_the_same(&fixture("streams/missing_packets.ivf")), 26);
}

#[test]
fn a_cut_picture_is_left_out_though_the_decoder_does_not_note_it() {
    let whole = fixture("program.mpg");
    let all = |path: &Path| {
        let every = |total| Selection {
            end_frame: Some(i64::MAX),
            ..Selection::new(total)
        };
        let total = read_with(path, 1, &every(1)).unwrap().total_frames;
        let found = read_with(path, 1, &every(total)).unwrap();
        match found.total_frames < total {
            true => {
                read_with(path, 1, &every(found.total_frames))
                    .unwrap()
                    .frames
            }
            false => found.frames,
        }
    };
    let whole = all(&whole);
    for cut in (40..1200).step_by(97) {
        let file = damaged("program.mpg", |bytes| bytes.truncate(bytes.len() - cut));
        let shown = all(file.path());
        assert!(shown.len() > 20, "{cut}");
        assert!(
            shown.iter().all(|frame| whole.contains(frame)),
            "a guess is shown after {cut} bytes are gone"
        );
    }
}
