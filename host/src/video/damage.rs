//! Tracks damage since decoding began, and the frames that may therefore differ from those decoded from the first
//! packet.
//!
//! Decoders conceal damage with the contents of earlier frames, and do not always flag the frame. After a seek, the
//! result is the same only if decoding began in an earlier group of pictures than those frames. With several threads,
//! a decoder may report an error only after it was queried here.

use super::ffmpeg_log;
use super::index::Index;

/// The damage in the packets sent to a decoder since decoding began.
pub(super) struct Damage<'a> {
    index: &'a Index,
    /// The packet at which decoding began.
    start: usize,
    /// The last packet sent to the decoder.
    last_sent: Option<usize>,
    /// The errors logged in this thread before that packet.
    errors: u64,
    /// The gaps logged in this thread before that packet.
    gaps: u64,
    /// Whether any packet was damaged.
    is_present: bool,
    /// The last packet whose damage was concealed with other contents than when decoding from the first packet.
    inconsistent: Option<usize>,
}

impl<'a> Damage<'a> {
    /// No damage yet. Decoding begins at packet `start`.
    pub(super) fn new(index: &'a Index, start: usize) -> Self {
        Self {
            index,
            start,
            last_sent: None,
            errors: ffmpeg_log::thread_errors(),
            gaps: ffmpeg_log::thread_gaps(),
            is_present: false,
            inconsistent: None,
        }
    }

    /// Registers that the packet at `place` is sent to the decoder.
    pub(super) fn packet_sent(&mut self, place: usize) {
        self.read_log();
        self.last_sent = Some(place);
        self.errors = ffmpeg_log::thread_errors();
        self.gaps = ffmpeg_log::thread_gaps();
    }

    /// Whether the last packet sent to the decoder is damaged.
    pub(super) fn is_last_damaged(&self) -> bool {
        ffmpeg_log::thread_errors() > self.errors
    }

    /// Records what the decoder logged about the last packet.
    fn read_log(&mut self) {
        let Some(last_sent) = self.last_sent else {
            return;
        };
        if self.is_last_damaged() {
            self.mark_damaged(last_sent);
        }
        // Packets before the start of decoding are always missing.
        let misses_some = ffmpeg_log::thread_gaps() > self.gaps && last_sent > self.start;
        if misses_some && !self.is_leading(last_sent) {
            self.record(last_sent - 1);
        }
    }

    /// Records that the last packet sent to the decoder is damaged.
    pub(super) fn mark_last_damaged(&mut self) {
        if let Some(last_sent) = self.last_sent {
            self.mark_damaged(last_sent);
        }
    }

    /// Records that the packet at `place` is damaged.
    pub(super) fn mark_damaged(&mut self, place: usize) {
        if !self.is_leading(place) {
            self.record(place);
        }
    }

    /// Whether the packet at `place` belongs to the leading frames of an open GOP: it references packets that the
    /// decoder has not seen, and no later frame references it.
    fn is_leading(&self, place: usize) -> bool {
        let entries = &self.index.entries;
        self.start > 0 && entries[place].pts < entries[self.start].pts
    }

    fn record(&mut self, place: usize) {
        self.is_present = true;
        let group = |place| self.index.start_for(place);
        let filled_from = group(place).min(group(place.saturating_sub(1)));
        let is_already_inconsistent = self
            .inconsistent
            .is_some_and(|inconsistent| inconsistent >= filled_from);
        if self.start > 0 && (filled_from <= self.start || is_already_inconsistent) {
            self.inconsistent = Some(place);
        }
    }

    /// Whether any packet was damaged.
    pub(super) fn is_present(&mut self) -> bool {
        self.read_log();
        self.is_present
    }

    /// Whether the frame of the packet at `place` may differ from the one decoded from the first packet.
    pub(super) fn affects(&mut self, place: usize) -> bool {
        self.read_log();
        let group = self.index.start_for(place);
        self.inconsistent
            .is_some_and(|inconsistent| inconsistent >= group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three times I P B B, where the two B-frames after an I-frame are shown before it.
    fn index() -> Index {
        let times = [0, 3, 1, 2, 6, 4, 5, 9, 12, 10, 11, 15];
        Index::of_times(&times.map(|time| (time, time % 6 == 0)))
    }

    #[test]
    fn damage_affects_its_group_if_decoding_began_there() {
        let index = index();
        let mut damage = Damage::new(&index, 4);
        damage.mark_damaged(7);
        assert!(damage.is_present());
        // The two frames that follow the next key frame, but are shown before it, reference this group too.
        let affected = (4..12).filter(|&place| damage.affects(place));
        assert_eq!(affected.collect::<Vec<_>>(), [4, 5, 6, 7, 9, 10]);
        for start in [0, 4] {
            let mut damage = Damage::new(&index, start);
            damage.mark_damaged(11);
            let is_late = start == 0;
            assert_eq!(damage.affects(11), !is_late, "from {start}");
        }
    }

    #[test]
    fn damage_in_consecutive_groups_affects_the_last() {
        let index = Index::of_times(&[0, 1, 2, 3, 4, 5, 6, 7].map(|time| (time, time % 2 == 0)));
        let met = |places: &[usize]| {
            let mut damage = Damage::new(&index, 2);
            places.iter().for_each(|&place| damage.mark_damaged(place));
            damage.affects(7)
        };
        assert!(met(&[3, 4, 6]));
        assert!(!met(&[3, 6]));
        assert!(!met(&[7]));
    }

    #[test]
    fn leading_frames_may_be_damaged() {
        let index = index();
        let mut damage = Damage::new(&index, 4);
        damage.mark_damaged(5);
        damage.mark_damaged(6);
        assert!(!damage.is_present());
        assert!(!damage.affects(7));
    }
}
