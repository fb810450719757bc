//! Random choices that are the same on every machine and evenly distributed.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// The source of all random choices of a split.
pub(super) struct RandomSource(ChaCha8Rng);

impl RandomSource {
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self(random)
    }

    /// Returns a number below `end`, which must not be 0. Implemented here so that no library version changes it.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.0.next_u64()) * end as u128) >> 64) as usize
    }

    /// Returns a number from `from` up to `to`.
    pub fn between(&mut self, from: f32, to: f32) -> f32 {
        let part = (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32;
        from + (to - from) * part
    }

    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

/// A deck of cards. They are dealt one after another, and shuffled again when all are dealt. So the numbers of times
/// that two cards were dealt differ by at most one.
pub(super) struct Deck<T> {
    cards: Vec<T>,
    dealt: usize,
}

impl<T: Clone> Deck<T> {
    /// Creates a deck of at least one card.
    pub fn new(cards: impl IntoIterator<Item = T>) -> Self {
        let cards: Vec<T> = cards.into_iter().collect();
        Self {
            dealt: cards.len(),
            cards,
        }
    }

    pub fn deal(&mut self, random: &mut RandomSource) -> T {
        if self.dealt >= self.cards.len() {
            random.shuffle(&mut self.cards);
            self.dealt = 0;
        }
        self.dealt += 1;
        self.cards[self.dealt - 1].clone()
    }
}
