//! The packets of a video stream, read once without decoding. They tell how many frames there are, in which order
//! they are shown, and from which key frame each can be decoded.

use std::path::Path;

use ffmpeg_next::{Error, Packet};

use super::container::{self, Container, Reordering};
use super::error::{VideoError, with_reason};
use super::limits::ReadLimits;

/// A packet. In practice, each contains one coded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pts: Option<i64>,
    pub(super) dts: Option<i64>,
    /// Duration in ticks. 0 if the file does not specify it.
    pub(super) duration: i64,
    /// Byte offset in the file, or −1.
    position: i64,
    key: bool,
    /// Only decoded as a reference, never shown (before the start of an edit list).
    hidden: bool,
}

impl Entry {
    pub(super) fn of(packet: &Packet) -> Self {
        Self {
            pts: packet.pts(),
            dts: packet.dts(),
            duration: packet.duration(),
            position: packet.position() as i64,
            key: packet.is_key(),
            hidden: container::is_hidden(packet),
        }
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.hidden
    }

    pub(super) fn is_key(&self) -> bool {
        self.key
    }

    /// Whether both describe the same packet. After a seek, FFmpeg may guess another decoding time, so it is
    /// compared only if there is no presentation time.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.position == other.position
            && self.pts == other.pts
            && (self.pts.is_some() || self.dts == other.dts)
    }
}

/// The packets of the video stream.
pub(super) struct Index {
    /// The packets in file order, which is decoding order.
    pub(super) entries: Vec<Entry>,
    /// The packet of each frame in presentation order, according to the timestamps. `None` if timestamps are missing
    /// or inconsistent (an AVI with B-frames, joined streams). Frames must then be counted from the start.
    pub(super) order: Option<Vec<u32>>,
    /// The number of packets that are shown.
    pub(super) shown: usize,
    /// Whether the order must be verified by decoding the first frames.
    pub(super) is_doubtful: bool,
    /// Whether packets may be missing in a stream with reordering. The decoder then returns frames in another order.
    pub(super) may_have_gaps: bool,
}

/// The maximum difference between the positions of a packet in presentation order and in file order. No codec
/// reorders more. Timestamps that imply more do not belong to this stream.
const LONGEST_DELAY: u32 = 64;

impl Index {
    /// Reads all packets of `container`, up to its end.
    pub(super) fn scan(
        path: &Path,
        container: &mut Container,
        limits: &ReadLimits,
    ) -> Result<Self, VideoError> {
        let mut entries = Vec::new();
        let mut is_cut = false;
        let mut packet = Packet::empty();
        loop {
            match packet.read(&mut container.input) {
                Ok(()) => {}
                Err(Error::Eof) => break,
                // The file is cut short.
                Err(_) if entries.len() > 1 && container.is_at_end() => break,
                Err(source) => return Err(cut_short(path, container, entries.len(), source)),
            }
            if packet.stream() == container.stream {
                limits.check_frames(path, entries.len() as u64 + 1)?;
                if container::is_encrypted(&packet) {
                    return Err(VideoError::Encrypted {
                        path: path.to_owned(),
                    });
                }
                let mut entry = Entry::of(&packet);
                entry.key &= container.keys_are_reliable || entries.is_empty();
                entries.push(entry);
                is_cut = packet.is_corrupt();
            }
            packet = Packet::empty();
        }
        // The file ends in the middle of its last packet. Players would guess the missing part of that frame.
        if is_cut && entries.len() > 1 {
            entries.pop();
        }
        let index = Self::new(entries, container.reordering);
        if index.shown == 0 {
            return Err(VideoError::NoFrames {
                path: path.to_owned(),
            });
        }
        Ok(index)
    }

    fn new(entries: Vec<Entry>, reordering: Reordering) -> Self {
        let shown: Vec<u32> = (0..)
            .zip(&entries)
            .filter(|(_, entry)| !entry.hidden)
            .map(|(at, _)| at)
            .collect();
        let is_timed = shown.iter().all(|&at| entries[at as usize].pts.is_some());
        let is_untimed = entries.iter().all(|entry| entry.pts.is_none());
        let order = if is_timed {
            by_time(&entries, &shown)
        } else {
            (is_untimed && !reordering.is_seen).then(|| shown.clone())
        };
        // A stream that is cut at its start begins with packets that produce no frames. And if packets are
        // reordered but their timestamps are not, the timestamps may be in packet order.
        let begins_late = !entries.first().is_some_and(|first| first.key)
            || order
                .as_ref()
                .is_some_and(|order| order.first() != shown.first());
        let may_reorder = reordering.is_seen || is_untimed && reordering.is_possible;
        let is_doubtful = begins_late || may_reorder && order.as_ref() == Some(&shown);
        let times = || {
            let order = order.iter().flatten();
            order.filter_map(|&at| entries[at as usize].pts)
        };
        let may_have_gaps = reordering.is_seen && !is_even(times());
        Self {
            entries,
            order,
            shown: shown.len(),
            is_doubtful,
            may_have_gaps,
        }
    }

    /// Creates an index of packets with these presentation times and key frame flags.
    #[cfg(test)]
    pub(super) fn of_times(times: &[(i64, bool)]) -> Self {
        let entries = times.iter().map(|&(pts, key)| tests::entry(pts, key));
        Self::new(entries.collect(), tests::SEEN)
    }

    /// Returns the last key frame from which the packet `target` can be decoded: at or before it in the file, and
    /// not shown after it. (In an open GOP, frames that follow a key frame in the file but are shown before it
    /// reference the previous group.)
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

    /// Returns the last key frame before the packet `at`, or the first packet.
    pub(super) fn key_before(&self, at: usize) -> usize {
        (1..at)
            .rev()
            .find(|&earlier| self.entries[earlier].key)
            .unwrap_or(0)
    }

    /// Returns the position of a packet. `None` if it is unknown or ambiguous.
    pub(super) fn locate(&self, entry: &Entry) -> Option<usize> {
        let mut found = (0..)
            .zip(&self.entries)
            .filter(|(_, known)| known.is_same(entry));
        let (at, _) = found.next()?;
        found.next().is_none().then_some(at)
    }
}

/// Sorts the packets `shown` by time. Returns `None` if the times cannot belong to one stream: they must be
/// unique, near the file order, and decoding times must not decrease.
fn by_time(entries: &[Entry], shown: &[u32]) -> Option<Vec<u32>> {
    if !entries.iter().filter_map(|entry| entry.dts).is_sorted() {
        return None;
    }
    let time = |at: u32| entries[at as usize].pts;
    let mut order = shown.to_vec();
    order.sort_by_key(|&at| time(at));
    let unique = order.windows(2).all(|pair| time(pair[0]) < time(pair[1]));
    let mut moved = order.iter().zip(shown);
    let near = moved.all(|(by_time, by_file)| by_time.abs_diff(*by_file) <= LONGEST_DELAY);
    (unique && near).then_some(order)
}

/// Whether these times are evenly spaced, except for rounding.
fn is_even(times: impl Iterator<Item = i64> + Clone) -> bool {
    let steps = || {
        times
            .clone()
            .zip(times.clone().skip(1))
            .map(|(from, to)| to.saturating_sub(from))
    };
    let (least, most) = (steps().min().unwrap_or(0), steps().max().unwrap_or(0));
    most.saturating_sub(least) <= 2
}

fn cut_short(path: &Path, container: &Container, frames: usize, source: Error) -> VideoError {
    VideoError::Truncated {
        path: path.to_owned(),
        container: container.format_name(),
        expected: "packets up to the end of the file".into(),
        found: format!("a read error after {frames} frames"),
        source: with_reason(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn entry(pts: i64, key: bool) -> Entry {
        Entry {
            pts: Some(pts),
            dts: None,
            duration: 0,
            position: pts,
            key,
            hidden: false,
        }
    }

    const NEVER: Reordering = Reordering {
        is_seen: false,
        is_possible: false,
    };
    pub(super) const SEEN: Reordering = Reordering {
        is_seen: true,
        is_possible: true,
    };

    fn timed(times: &[i64]) -> Index {
        let times = times.iter().enumerate();
        Index::of_times(&times.map(|(at, &pts)| (pts, at == 0)).collect::<Vec<_>>())
    }

    #[test]
    fn inconsistent_times_give_no_order() {
        assert_eq!(
            timed(&[0, 3, 1, 2]).order.as_deref(),
            Some(&[0, 2, 3, 1][..])
        );
        assert_eq!(timed(&[0, 1, 2, 2, 3]).order, None, "repeated");
        let joined: Vec<i64> = (0..100)
            .map(|n| 2 * n)
            .chain((0..100).map(|n| 2 * n + 1))
            .collect();
        assert_eq!(timed(&joined).order, None, "two interleaved streams");
        let decoded = |dts: [i64; 4]| {
            let entries = dts.iter().zip([0, 3, 1, 2]);
            let entries = entries.map(|(&dts, pts)| Entry {
                dts: Some(dts),
                ..entry(pts, true)
            });
            Index::new(entries.collect(), SEEN).order
        };
        assert!(decoded([-1, 0, 1, 2]).is_some());
        assert_eq!(decoded([-1, 0, -1, 2]), None, "jumping back");
    }

    #[test]
    fn streams_that_begin_late_or_lack_reordered_times_are_doubtful() {
        assert!(!timed(&[0, 3, 1, 2]).is_doubtful);
        assert!(
            timed(&[0, 1, 2, 3]).is_doubtful,
            "reordered, but not in its times"
        );
        assert!(timed(&[2, 0, 1, 3]).is_doubtful, "leading frames");
        let steady = |key| Index::new(vec![entry(0, key), entry(1, false)], NEVER).is_doubtful;
        assert!(steady(false), "no key frame");
        assert!(!steady(true));
    }

    #[test]
    fn frames_shown_before_their_key_frame_reference_the_previous_group() {
        // I P B B | I B B P, where the two B-frames after the second I-frame are shown before it.
        let shown = [(0, true), (3, false), (1, false), (2, false)];
        let shown = shown
            .into_iter()
            .chain([(6, true), (4, false), (5, false), (9, false)]);
        let index = Index::of_times(&shown.collect::<Vec<_>>());
        let order = index.order.as_deref().unwrap();
        assert_eq!(order, [0, 2, 3, 1, 5, 6, 4, 7]);
        let starts = order.iter().map(|&at| index.start_for(at as usize));
        assert_eq!(starts.collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 4, 4]);
        assert_eq!((index.key_before(7), index.key_before(4)), (4, 0));
    }

    #[test]
    fn packets_are_located_only_if_unambiguous() {
        let twice = vec![
            entry(0, true),
            entry(1, false),
            entry(1, false),
            entry(2, false),
        ];
        let index = Index::new(twice, NEVER);
        assert_eq!(index.locate(&entry(2, false)), Some(3));
        assert_eq!(index.locate(&entry(1, false)), None);
        assert_eq!(index.locate(&entry(7, false)), None);
    }

    #[test]
    fn without_times_the_order_is_known_only_without_reordering() {
        let untimed = |reordering| {
            let entry = Entry {
                pts: None,
                ..entry(0, true)
            };
            Index::new(vec![entry; 3], reordering).order
        };
        assert_eq!(untimed(NEVER), Some(vec![0, 1, 2]));
        assert_eq!(untimed(SEEN), None);
    }
}
