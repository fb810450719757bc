//! The packets of a video stream, read once without decoding: how many frames there are, in which
//! order they are shown, and from where each can be decoded.

use std::path::Path;

use ffmpeg_next::{Error, Packet};

use super::container::{self, Container};
use super::error::VideoError;
use super::limits::Limits;

/// One packet: in all containers met in practice, one coded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pts: Option<i64>,
    pub(super) dts: Option<i64>,
    /// Byte position in the file, or −1.
    position: i64,
    key: bool,
    /// Decoded for others' sake but never shown (before the start of an edit list).
    hidden: bool,
}

impl Entry {
    pub(super) fn of(packet: &Packet) -> Self {
        Self {
            pts: packet.pts(),
            dts: packet.dts(),
            position: packet.position() as i64,
            key: packet.is_key(),
            hidden: container::is_hidden(packet),
        }
    }

    /// Whether both are the same packet, read at different times. After a seek FFmpeg may have to
    /// guess a decoding time anew, so that counts only where there is no presentation time.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.position == other.position
            && self.pts == other.pts
            && (self.pts.is_some() || self.dts == other.dts)
    }
}

/// All packets of the video stream.
pub(super) struct Index {
    /// In the order they lie in the file, which is the order of decoding.
    pub(super) entries: Vec<Entry>,
    /// The packet of each frame in the order of presentation; `None` where the file does not say
    /// (an AVI with B-frames): then only decoding from the start and counting tells.
    pub(super) order: Option<Vec<u32>>,
    /// How many frames are shown.
    pub(super) shown: usize,
}

impl Index {
    /// Reads all packets of `container`, which is left at its end.
    pub(super) fn scan(
        path: &Path,
        container: &mut Container,
        limits: &Limits,
    ) -> Result<Self, VideoError> {
        let mut entries = Vec::new();
        let mut packet = Packet::empty();
        loop {
            match packet.read(&mut container.input) {
                Ok(()) => {}
                Err(Error::Eof) => break,
                Err(source) => return Err(cut_short(path, container, entries.len(), source)),
            }
            if packet.stream() == container.stream {
                limits.check_frames(path, entries.len() as u64 + 1)?;
                entries.push(Entry::of(&packet));
            }
            packet = Packet::empty();
        }
        let index = Self::new(entries, container.reorders);
        if index.shown == 0 {
            return Err(VideoError::NoFrames {
                path: path.to_owned(),
            });
        }
        Ok(index)
    }

    fn new(entries: Vec<Entry>, reorders: bool) -> Self {
        let shown = entries.iter().filter(|entry| !entry.hidden).count();
        let timed = entries
            .iter()
            .all(|entry| entry.hidden || entry.pts.is_some());
        let untimed = entries.iter().all(|entry| entry.pts.is_none());
        let order = if timed || (untimed && !reorders) {
            let mut order: Vec<u32> = (0..)
                .zip(&entries)
                .filter(|(_, entry)| !entry.hidden)
                .map(|(at, _)| at)
                .collect();
            if timed {
                // Stable: packets with one and the same time stay in the order of decoding.
                order.sort_by_key(|&at| entries[at as usize].pts);
            }
            Some(order)
        } else {
            None
        };
        Self {
            entries,
            order,
            shown,
        }
    }

    /// The last key frame from which the packet `target` can be decoded: at or before it in the
    /// file, and not shown after it. (Pictures that follow a key frame in the file but are shown
    /// before it lean on the group before: an open GOP.)
    pub(super) fn start_for(&self, target: usize) -> usize {
        let shown_at = self.entries[target].pts;
        (1..=target)
            .rev()
            .find(|&at| {
                let entry = &self.entries[at];
                entry.key && (entry.pts.is_none() || entry.pts <= shown_at)
            })
            .unwrap_or(0)
    }

    /// The last key frame before the packet `at`, or the first packet.
    pub(super) fn key_before(&self, at: usize) -> usize {
        (1..at)
            .rev()
            .find(|&earlier| self.entries[earlier].key)
            .unwrap_or(0)
    }

    /// Which packet this is. `None` when it is unknown or could be several.
    pub(super) fn locate(&self, entry: &Entry) -> Option<usize> {
        let mut found = (0..)
            .zip(&self.entries)
            .filter(|(_, known)| known.same(entry));
        let (at, _) = found.next()?;
        found.next().is_none().then_some(at)
    }
}

fn cut_short(path: &Path, container: &Container, frames: usize, source: Error) -> VideoError {
    VideoError::Truncated {
        path: path.to_owned(),
        container: container.format_name(),
        expected: "packets up to the end of the file".into(),
        found: format!("a reading error after {frames} frames"),
        source: Some(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pts: i64, key: bool) -> Entry {
        Entry {
            pts: Some(pts),
            dts: None,
            position: pts,
            key,
            hidden: false,
        }
    }

    #[test]
    fn pictures_shown_before_their_key_frame_lean_on_the_group_before() {
        // I P B B | I B B P, where the two B after the second I are shown before it.
        let shown = [(0, true), (3, false), (1, false), (2, false)];
        let shown = shown
            .into_iter()
            .chain([(6, true), (4, false), (5, false), (9, false)]);
        let index = Index::new(shown.map(|(pts, key)| entry(pts, key)).collect(), true);
        let order = index.order.as_deref().unwrap();
        assert_eq!(order, [0, 2, 3, 1, 5, 6, 4, 7]);
        let starts = order.iter().map(|&at| index.start_for(at as usize));
        assert_eq!(starts.collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 4, 4]);
        assert_eq!((index.key_before(7), index.key_before(4)), (4, 0));
    }

    #[test]
    fn packets_are_known_again_only_when_there_is_no_doubt() {
        let twice = vec![
            entry(0, true),
            entry(1, false),
            entry(1, false),
            entry(2, false),
        ];
        let index = Index::new(twice, false);
        assert_eq!(index.locate(&entry(2, false)), Some(3));
        assert_eq!(index.locate(&entry(1, false)), None);
        assert_eq!(index.locate(&entry(7, false)), None);
    }

    #[test]
    fn without_times_the_order_is_known_only_if_nothing_is_reordered() {
        let untimed = |reorders| {
            let entry = Entry {
                pts: None,
                ..entry(0, true)
            };
            Index::new(vec![entry; 3], reorders).order
        };
        assert_eq!(untimed(false), Some(vec![0, 1, 2]));
        assert_eq!(untimed(true), None);
    }
}
