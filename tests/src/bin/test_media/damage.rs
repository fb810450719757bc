//! Damage to recordings: cuts, holes, joins and wrong timestamps.

use super::clips::{Codec, encode, ffmpeg, path};
use std::fs;
use std::path::{Path, PathBuf};

/// Numbers that are the same in every run (Knuth's MMIX generator).
pub struct Numbers(u64);

impl Numbers {
    /// Numbers that depend only on the codec and the extension.
    pub fn of(codec: &str, ending: &str) -> Self {
        let letters = codec.bytes().chain(ending.bytes());
        Self(letters.fold(0, |state: u64, byte| {
            state.wrapping_mul(31) + u64::from(byte)
        }))
    }

    /// A number from `from` up to but not including `to`.
    pub fn between(&mut self, from: usize, to: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        from + (self.0 >> 33) as usize % (to - from).max(1)
    }
}

/// Bitstream filters that remove packets or change their timestamps.
const PACKETS: &[(&str, &str)] = &[
    ("without-first-packets", "noise=drop=lt(n\\,3)"),
    ("without-middle-packets", "noise=drop=between(n\\,11\\,14)"),
    ("without-some-packets", "noise=drop=eq(mod(n\\,7)\\,5)"),
    ("without-pts", "setts=pts=NOPTS"),
    ("without-times", "setts=pts=NOPTS:dts=NOPTS"),
    ("times-of-packets", "setts=pts=DTS"),
    (
        "repeated-times",
        "setts=pts=PTS-mod(N\\,2)*max(DURATION\\,1)",
    ),
    ("reversed-times", "setts=pts=-PTS"),
    ("jumping-back", "setts=ts=if(gt(N\\,15)\\,TS-0.4/TB\\,TS)"),
    ("jumping-ahead", "setts=ts=if(gt(N\\,15)\\,TS+9/TB\\,TS)"),
];

/// Formats that can be read from any point.
const STREAMS: &[&str] = &[
    "ts", "mpg", "h264", "hevc", "m2v", "m4v", "mjpeg", "obu", "dv", "ogv", "flv", "nut",
];

/// Whether a change removes frames or parts of them. `change` is written as in file names.
pub fn loses_frames(change: &str) -> bool {
    [
        "head-cut",
        "tail-cut",
        "hole",
        "garbage",
        "joined-cut",
        "without-",
    ]
    .iter()
    .any(|kind| change.starts_with(kind))
        && !["without-pts", "without-times"].contains(&change)
}

/// Writes the clip and its damaged variants. Returns the paths of the files that could be written.
pub fn files(
    codec: &Codec,
    ending: &'static str,
    folder: &Path,
    numbers: &mut Numbers,
) -> Vec<PathBuf> {
    let at = |change: &str| path(folder, codec.0, change, ending);
    let whole = at("whole");
    let mut made = Vec::new();
    if !encode(codec, 0, &[], &whole) {
        return made;
    }
    made.push(whole.clone());
    let bytes = fs::read(&whole).expect("was written");
    let mut write = |change: &str, bytes: &[u8]| {
        fs::write(at(change), bytes).expect("the folder is writable");
        made.push(at(change));
    };
    let length = bytes.len();
    let is_stream = STREAMS.contains(&ending);
    for n in 0..if is_stream { 3 } else { 1 } {
        let from = numbers.between(length / 20, length * 6 / 10);
        write(&format!("head-cut{n}"), &bytes[from..]);
    }
    for n in 0..3 {
        let to = numbers.between(length / 2, length);
        write(&format!("tail-cut{n}"), &bytes[..to]);
    }
    for n in 0..2 {
        let from = numbers.between(length / 4, length * 3 / 4);
        let size = numbers.between(10, length / 8);
        write(
            &format!("hole{n}"),
            &[&bytes[..from], &bytes[from + size..]].concat(),
        );
    }
    let mut garbage = bytes.clone();
    let from = numbers.between(length / 3, length * 2 / 3);
    let to = (from + numbers.between(20, 200)).min(length);
    garbage[from..to]
        .iter_mut()
        .for_each(|byte| *byte = numbers.between(0, 256) as u8);
    write("garbage", &garbage);

    let other = at("other");
    if encode(codec, 1, &[], &other) {
        let second = fs::read(&other).expect("was written");
        if is_stream {
            write("joined", &[&bytes[..], &second].concat());
            let from = numbers.between(10, second.len() / 2);
            write(
                "joined-cut",
                &[&bytes[..length * 2 / 3], &second[from..]].concat(),
            );
        } else {
            let list = folder.join(format!("{}.{ending}.txt", codec.0));
            let name = |path: &Path| path.file_name().map(|name| name.display().to_string());
            let names = [&whole, &other].map(|path| name(path).unwrap_or_default());
            let lines = names.map(|name| format!("file {name}\n")).concat();
            fs::write(&list, lines).expect("the folder is writable");
            let list = list.display().to_string();
            if ffmpeg(&["-f", "concat", "-i", &list, "-c", "copy"], &at("joined")) {
                made.push(at("joined"));
            }
        }
        let _ = fs::remove_file(&other);
    }
    let source = whole.display().to_string();
    for (change, filter) in PACKETS {
        if ffmpeg(
            &["-i", &source, "-c", "copy", "-bsf:v", filter],
            &at(change),
        ) {
            made.push(at(change));
        }
    }
    if ffmpeg(
        &["-ss", "0.5", "-i", &source, "-c", "copy"],
        &at("begun-late"),
    ) {
        made.push(at("begun-late"));
    }
    let vfr = "select=lt(n\\,10)+not(mod(n\\,5))";
    if !codec.1.contains("-vf") && encode(codec, 0, &["-vf", vfr, "-fps_mode", "vfr"], &at("vfr")) {
        made.push(at("vfr"));
    }
    if codec.0 == "h264" && ["mp4", "mov"].contains(&ending) {
        made.extend(rotated(&bytes, &at));
    }
    made
}

/// Writes the clip with each of the eight display matrices that cameras use.
fn rotated(bytes: &[u8], at: &dyn Fn(&str) -> PathBuf) -> Vec<PathBuf> {
    let find = bytes.windows(4).position(|kind| kind == b"tkhd");
    let Some(header) = find else {
        return Vec::new();
    };
    // After the type: version and flags, five 32-bit numbers, and 16 bytes of other fields.
    let matrix = header + 4 + 4 + 20 + 16;
    let mut made = Vec::new();
    for turn in 0..8 {
        let signs = [1 - 2 * (turn & 1), 1 - (turn & 2)];
        let [a, b, c, d] = if turn & 4 == 0 {
            [signs[0], 0, 0, signs[1]]
        } else {
            [0, signs[0], signs[1], 0]
        };
        let mut changed = bytes.to_vec();
        for (index, entry) in [(0, a), (1, b), (3, c), (4, d)] {
            let entry: i32 = entry << 16;
            changed[matrix + 4 * index..][..4].copy_from_slice(&entry.to_be_bytes());
        }
        let path = at(&format!("turned{turn}"));
        fs::write(&path, changed).expect("the folder is writable");
        made.push(path);
    }
    made
}
