//! What a session remembers: the keys and values of every layer.

/// The memory of one text.
#[derive(Clone)]
pub struct Session {
    /// A layer each: keys and values `[length, kv_heads · head_dim]`, the keys already turned.
    pub layers: Vec<LayerCache>,
    /// Positions seen.
    pub length: usize,
}

/// Keys and values of one layer.
#[derive(Clone, Default)]
pub struct LayerCache {
    /// `[length, kv_heads · head_dim]`
    pub keys: Vec<f32>,
    /// `[length, kv_heads · head_dim]`
    pub values: Vec<f32>,
}

impl Session {
    /// A session that has seen nothing.
    pub fn new(layers: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); layers],
            length: 0,
        }
    }

    /// Forgets everything after `length` positions of `row` elements.
    pub fn truncate(&mut self, length: usize, row: usize) {
        for layer in &mut self.layers {
            layer.keys.truncate(length * row);
            layer.values.truncate(length * row);
        }
        self.length = length;
    }
}
