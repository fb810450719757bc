//! Tracks damage since decoding began, and the frames that may therefore differ from those decoded from the first
//! packet.
//!
//! Decoders conceal damage with the contents of earlier frames, and do not always flag the frame. After a seek, the
//! result is the same only if decoding began in an earlier group of pictures than those frames. With several threads,
//! a decoder may report an error only after it was queried here.

use super::complaints;
use super::index::Index;

/// The damage in the packets sent to a decoder since decoding began.
pub(super) struct Damage<'a> {
    index: &'a Index,
    /// The packet at which decoding began.
    start: usize,
    /// The last packet sent to the decoder.
    given: Option<usize>,
    /// The errors logged in this thread before that packet.
    complaints: u64,
    /// The gaps logged in this thread before that packet.
    gaps: u64,
    /// Whether any packet was damaged.
    is_met: bool,
    /// The last packet whose damage was concealed with other contents than when decoding from the first packet.
    strange: Option<usize>,
}

impl<'a> Damage<'a> {
    /// No damage yet. Decoding begins at packet `start`.
    pub(super) fn none(index: &'a Index, start: usize) -> Self {
        Self {
            index,
            start,
            given: None,
            complaints: complaints::count_here(),
            gaps: complaints::gaps_here(),
            is_met: false,
            strange: None,
        }
    }

    /// Registers that the packet at `place` is sent to the decoder.
    pub(super) fn give(&mut self, place: usize) {
        self.listen();
        self.given = Some(place);
        self.complaints = complaints::count_here();
        self.gaps = complaints::gaps_here();
    }

    /// Whether the last packet sent to the decoder is damaged.
    pub(super) fn is_in_last(&self) -> bool {
        complaints::count_here() > self.complaints
    }

    /// Records what the decoder logged about the last packet.
    fn listen(&mut self) {
        let Some(given) = self.given else { return };
        if self.is_in_last() {
            self.note(given);
        }
        // Packets before the start of decoding are always missing.
        let misses_some = complaints::gaps_here() > self.gaps && given > self.start;
        if misses_some && !self.is_leading(given) {
            self.add(given - 1);
        }
    }

    /// Records that the last packet sent to the decoder is damaged.
    pub(super) fn note_in_last(&mut self) {
        if let Some(given) = self.given {
            self.note(given);
        }
    }

    /// Records that the packet at `place` is damaged.
    pub(super) fn note(&mut self, place: usize) {
        if !self.is_leading(place) {
            self.add(place);
        }
    }

    /// Whether the packet at `place` belongs to the leading frames of an open GOP: it references packets that the
    /// decoder has not seen, and no later frame references it.
    fn is_leading(&self, place: usize) -> bool {
        let entries = &self.index.entries;
        self.start > 0 && entries[place].pts < entries[self.start].pts
    }

    fn add(&mut self, place: usize) {
        self.is_met = true;
        let group = |place| self.index.start_for(place);
        let filled_from = group(place).min(group(place.saturating_sub(1)));
        let is_strange = self.strange.is_some_and(|strange| strange >= filled_from);
        if self.start > 0 && (filled_from <= self.start || is_strange) {
            self.strange = Some(place);
        }
    }

    /// Whether any packet was damaged.
    pub(super) fn is_met(&mut self) -> bool {
        self.listen();
        self.is_met
    }

    /// Whether the frame of the packet at `place` may differ from the one decoded from the first packet.
    pub(super) fn reaches(&mut self, place: usize) -> bool {
        self.listen();
        let group = self.index.start_for(place);
        self.strange.is_some_and(|strange| strange >= group)
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
        let mut damage = Damage::none(&index, 4);
        damage.note(7);
        assert!(damage.is_met());
        // The two frames that follow the next key frame, but are shown before it, reference this group too.
        let reached = (4..12).filter(|&place| damage.reaches(place));
        assert_eq!(reached.collect::<Vec<_>>(), [4, 5, 6, 7, 9, 10]);
        for start in [0, 4] {
            let mut damage = Damage::none(&index, start);
            damage.note(11);
            let is_late = start == 0;
            assert_eq!(damage.reaches(11), !is_late, "from {start}");
        }
    }

    #[test]
    fn damage_in_consecutive_groups_affects_the_last() {
        let index = Index::of_times(&[0, 1, 2, 3, 4, 5, 6, 7].map(|time| (time, time % 2 == 0)));
        let met = |places: &[usize]| {
            let mut damage = Damage::none(&index, 2);
            places.iter().for_each(|&place| damage.note(place));
            damage.reaches(7)
        };
        assert!(met(&[3, 4, 6]));
        assert!(!met(&[3, 6]));
        assert!(!met(&[7]));
    }

    #[test]
    fn leading_frames_may_be_damaged() {
        let index = index();
        let mut damage = Damage::none(&index, 4);
        damage.note(5);
        damage.note(6);
        assert!(!damage.is_met());
        assert!(!damage.reaches(7));
    }
}
