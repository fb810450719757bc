//! Checks the declarations of an MP4 or QuickTime file before FFmpeg reads it.
//!
//! A sample table of twenty bytes can declare four billion frames. FFmpeg's demuxer allocates an index for them
//! when it opens the file, and has no option to prevent it. The walk over the boxes also distinguishes a file that
//! is cut short from one that is not a video.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::error::{VideoError, with_reason};
use super::limits::ReadLimits;
use super::memory;

/// Maximum number of boxes to read. An hour of one-second fragments has about 15,000.
const MAX_BOXES: usize = 4_000_000;

/// The result of the walk over the boxes.
#[derive(Debug, Default)]
pub(super) struct Mp4Summary {
    /// Whether the first box is one with which MP4 and QuickTime files begin.
    is_mp4: bool,
    has_index: bool,
    length: u64,
    /// The ids of tracks that belong to another track: its alpha or depth.
    auxiliary: Vec<u32>,
}

impl Mp4Summary {
    /// Whether the track with this id belongs to another track, as its alpha or depth.
    pub(super) fn is_auxiliary(&self, track: i32) -> bool {
        u32::try_from(track).is_ok_and(|track| self.auxiliary.contains(&track))
    }

    /// Returns the error for a file that FFmpeg could not open.
    pub(super) fn explain(&self, path: &Path, source: ffmpeg_next::Error) -> VideoError {
        if self.is_mp4 && !self.has_index {
            return VideoError::Truncated {
                path: path.to_owned(),
                container: "MP4/QuickTime".into(),
                expected: "an index of its frames (the `moov` box)".into(),
                found: format!("none in its {} bytes", self.length),
                source: Some(source),
            };
        }
        // FFmpeg recognised the format, but the file ends too early.
        if source == ffmpeg_next::Error::Eof || with_reason(source).is_none() {
            return VideoError::Truncated {
                path: path.to_owned(),
                container: "video".into(),
                expected: "a complete header".into(),
                found: format!("{} bytes", self.length),
                source: None,
            };
        }
        VideoError::NotAVideo {
            path: path.to_owned(),
            source,
        }
    }
}

/// Reads the boxes of an MP4. Other files pass.
pub(super) fn inspect(path: &Path, limits: &ReadLimits) -> Result<Mp4Summary, VideoError> {
    let unreadable = |source| super::unreadable(path, source);
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut walk = BoxWalk {
        path,
        limits,
        file: BufReader::with_capacity(64, file),
        about: Mp4Summary {
            length,
            ..Mp4Summary::default()
        },
        boxes: 0,
        fragments: 0,
        samples: 0,
        track_samples: 0,
        track_edits: 0,
        track: 0,
    };
    walk.boxes()?;
    Ok(walk.about)
}

/// The boxes that FFmpeg descends into and that may contain sample tables.
const PARENTS: [&[u8; 4]; 15] = [
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex", b"dinf",
    b"tref", b"sinf", b"schi", b"udta", b"wave",
];

/// Maximum nesting depth of boxes. Files have up to 8 levels, and FFmpeg stops at 11.
const MAX_DEPTH: usize = 16;

/// A box, or the file, whose contents are being read.
#[derive(Clone, Copy)]
struct OpenBox {
    kind: [u8; 4],
    /// Where the next inner box begins.
    at: u64,
    end: u64,
}

struct BoxWalk<'a> {
    path: &'a Path,
    limits: &'a ReadLimits,
    file: BufReader<File>,
    about: Mp4Summary,
    boxes: usize,
    /// The number of complete fragments.
    fragments: usize,
    /// The samples of all tracks and fragments so far.
    samples: u64,
    track_samples: u64,
    track_edits: u64,
    /// The id of the current track.
    track: u32,
}

impl BoxWalk<'_> {
    /// Reads the boxes of the file and their inner boxes.
    fn boxes(&mut self) -> Result<(), VideoError> {
        let mut open = vec![OpenBox {
            kind: *b"file",
            at: 0,
            end: self.about.length,
        }];
        // An explicit stack instead of recursion, because the file determines the depth.
        while let Some(&OpenBox {
            kind: parent,
            at,
            end,
        }) = open.last()
        {
            let Some((kind, body, size)) = self.header(at, end) else {
                open.pop();
                if parent == *b"trak" {
                    self.track()?;
                }
                continue;
            };
            let is_top = open.len() == 1;
            if is_top && at == 0 {
                let first = [
                    b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp",
                ];
                self.about.is_mp4 = first.contains(&&kind);
                if !self.about.is_mp4 {
                    return Ok(());
                }
            }
            self.boxes += 1;
            if self.boxes > MAX_BOXES {
                return Ok(());
            }
            let next = at.saturating_add(size);
            if is_top && next > end && [b"moov", b"moof", b"mdat"].contains(&&kind) {
                // The fragments before it are readable.
                return match self.about.has_index && self.fragments > 0 {
                    true => Ok(()),
                    false => Err(self.cut_short(&kind, next)),
                };
            }
            self.fragments += usize::from(is_top && kind == *b"moof");
            if let Some(here) = open.last_mut() {
                here.at = next;
            }
            match &kind {
                // Both begin with version and flags, then a size (or its width in bits), then the count.
                b"stsz" | b"stz2" => {
                    self.track_samples = self.track_samples.saturating_add(self.word(body + 8));
                    self.track()?;
                }
                b"elst" => self.track_edits = self.track_edits.saturating_add(self.word(body + 4)),
                b"trun" => {
                    self.samples = self.samples.saturating_add(self.word(body + 4));
                    self.limits.check_frames(self.path, self.samples)?;
                }
                // In version 1, the times before the track id are longer.
                b"tkhd" => {
                    let long = self.word(body) >> 24 == 1;
                    self.track = self.word(body + if long { 20 } else { 12 }) as u32;
                }
                b"hdlr" if self.word(body + 8) == u64::from(u32::from_be_bytes(*b"auxv")) => {
                    memory::push(self.path, &mut self.about.auxiliary, self.track)?;
                }
                b"moov" => self.about.has_index = true,
                b"trak" => (self.track_samples, self.track_edits) = (0, 0),
                _ => {}
            }
            if PARENTS.contains(&&kind) {
                if open.len() > MAX_DEPTH {
                    return Err(self.too_deep(&kind, at));
                }
                open.push(OpenBox {
                    kind,
                    at: body,
                    end: next.min(end),
                });
            }
        }
        Ok(())
    }

    /// Checks the number of samples of the current track. FFmpeg repeats the samples of a track for each edit.
    fn track(&mut self) -> Result<(), VideoError> {
        self.limits.check_frames(self.path, self.track_samples)?;
        if self.track_edits > 4 {
            let repeated = self.track_samples.saturating_mul(self.track_edits);
            self.limits.check_frames(self.path, repeated)?;
        }
        Ok(())
    }

    /// Returns the type, the start of the contents and the total size of the box at `at`.
    fn header(&mut self, at: u64, end: u64) -> Option<([u8; 4], u64, u64)> {
        if at.checked_add(8)? > end {
            return None;
        }
        let mut head = [0; 8];
        self.file.seek(SeekFrom::Start(at)).ok()?;
        self.file.read_exact(&mut head).ok()?;
        let [s0, s1, s2, s3, k0, k1, k2, k3] = head;
        let kind = [k0, k1, k2, k3];
        let (body, size) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (at + 8, end - at),
            1 => {
                let mut long = [0; 8];
                self.file.read_exact(&mut long).ok()?;
                (at + 16, u64::from_be_bytes(long))
            }
            size => (at + 8, u64::from(size)),
        };
        // A box smaller than its own header would cause an endless loop.
        (at.checked_add(size)? >= body).then_some((kind, body, size))
    }

    /// Returns the big-endian 32-bit number at `at`, or 0 past the end, like FFmpeg.
    fn word(&mut self, at: u64) -> u64 {
        let mut bytes = [0; 4];
        let read = self
            .file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(&mut bytes));
        if read.is_ok() {
            u64::from(u32::from_be_bytes(bytes))
        } else {
            0
        }
    }

    fn too_deep(&self, kind: &[u8; 4], at: u64) -> VideoError {
        let kind = kind.escape_ascii();
        VideoError::Truncated {
            path: self.path.to_owned(),
            container: "MP4/QuickTime".into(),
            expected: format!("boxes nested at most {MAX_DEPTH} levels deep"),
            found: format!("a `{kind}` box at a deeper level at byte {at}"),
            source: None,
        }
    }

    fn cut_short(&self, kind: &[u8; 4], end: u64) -> VideoError {
        VideoError::Truncated {
            path: self.path.to_owned(),
            container: "MP4/QuickTime".into(),
            expected: format!("{end} bytes (its `{}` box ends there)", kind.escape_ascii()),
            found: format!("{} bytes", self.about.length),
            source: None,
        }
    }
}
