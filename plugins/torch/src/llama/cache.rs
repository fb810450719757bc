//! The keys and values of a session, in memory that grows, and that forks share until one of them appends.

use crate::failure::Result;
use std::sync::Arc;
use tch::Tensor;

/// The smallest number of positions that memory is made for.
const LEAST_CAPACITY: i64 = 64;

/// The state of one text.
#[derive(Default)]
pub struct Session {
    /// The number of positions.
    pub length: usize,
    /// One for each layer; none while nothing was appended.
    pub layers: Vec<LayerCache>,
}

/// The keys and values of one layer, `[kv_heads, capacity, head_dim]` each.
#[derive(Default)]
pub struct LayerCache {
    memory: Option<Memory>,
}

struct Memory {
    keys: Tensor,
    values: Tensor,
    /// One reference for each session that has this memory.
    sessions: Arc<()>,
}

impl Session {
    /// Returns a session that shares the memory.
    pub fn fork(&self) -> Self {
        Self {
            length: self.length,
            layers: self.layers.iter().map(LayerCache::share).collect(),
        }
    }
}

impl LayerCache {
    fn share(&self) -> Self {
        let memory = self.memory.as_ref().map(|memory| Memory {
            keys: memory.keys.shallow_clone(),
            values: memory.values.shallow_clone(),
            sessions: Arc::clone(&memory.sessions),
        });
        Self { memory }
    }

    /// Appends `[kv_heads, new, head_dim]` after the first `length` positions, and returns the keys and values of all
    /// positions. Nothing before `length` changes.
    pub fn append(
        &mut self,
        length: i64,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (heads, new, head_dim) = keys.size3()?;
        let all = length + new;
        let fits = self.memory.as_ref().is_some_and(|memory| {
            let room = memory.keys.size().get(1).copied().unwrap_or(0);
            all <= room && Arc::strong_count(&memory.sessions) == 1
        });
        if !fits {
            // Doubled memory is copied rarely.
            let capacity = (2 * length).max(all).max(LEAST_CAPACITY);
            let grown = |new: &Tensor, old: Option<&Tensor>| -> Result<Tensor> {
                let options = (new.kind(), new.device());
                let grown = Tensor::f_empty([heads, capacity, head_dim], options)?;
                if let Some(old) = old.filter(|_| length > 0) {
                    let kept = old.f_narrow(1, 0, length)?;
                    grown.f_narrow(1, 0, length)?.f_copy_(&kept)?;
                }
                Ok(grown)
            };
            let old = self.memory.as_ref();
            self.memory = Some(Memory {
                keys: grown(keys, old.map(|old| &old.keys))?,
                values: grown(values, old.map(|old| &old.values))?,
                sessions: Arc::new(()),
            });
        }
        let Some(memory) = &self.memory else {
            return Ok((keys.shallow_clone(), values.shallow_clone()));
        };
        memory.keys.f_narrow(1, length, new)?.f_copy_(keys)?;
        memory.values.f_narrow(1, length, new)?.f_copy_(values)?;
        Ok((
            memory.keys.f_narrow(1, 0, all)?,
            memory.values.f_narrow(1, 0, all)?,
        ))
    }
}
