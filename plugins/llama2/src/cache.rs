//! The state of a session: the keys and values of every layer.

/// The state of one text.
#[derive(Clone)]
pub struct Session {
    /// The cache of each layer.
    pub layers: Vec<LayerCache>,
    /// The number of cached positions.
    pub length: usize,
}

/// The keys and values of one layer.
#[derive(Clone, Default)]
pub struct LayerCache {
    /// `[length, kv_heads · head_dim]`, already rotated
    pub keys: Vec<f32>,
    /// `[length, kv_heads · head_dim]`
    pub values: Vec<f32>,
}

impl Session {
    /// Makes an empty session.
    pub fn new(layers: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); layers],
            length: 0,
        }
    }

    /// Removes everything after the first `length` positions, each of `row` elements.
    pub fn truncate(&mut self, length: usize, row: usize) {
        for layer in &mut self.layers {
            layer.keys.truncate(length * row);
            layer.values.truncate(length * row);
        }
        self.length = length;
    }
}
