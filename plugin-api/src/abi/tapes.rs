//! The tapes of forward passes. They stay in the plugin: only their numbers cross the boundary.

use crate::{PluginError, guarded::guarded_drop};
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Identifies the tape of one forward pass.
pub type TapeId = u64;

/// Tapes by number.
pub(super) struct Tapes<T> {
    tapes: Mutex<HashMap<TapeId, T>>,
    next: AtomicU64,
}

impl<T> Tapes<T> {
    pub(super) fn new() -> Self {
        Self {
            tapes: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    pub(super) fn keep(&self, tape: T) -> TapeId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // Entries are only inserted and removed, so a panic cannot leave the table half changed.
        let mut tapes = self.tapes.lock().unwrap_or_else(PoisonError::into_inner);
        tapes.insert(id, tape);
        id
    }

    /// Takes a tape out.
    ///
    /// # Errors
    ///
    /// When it does not exist.
    pub(super) fn take(&self, id: TapeId) -> Result<T, PluginError> {
        self.remove(id).ok_or_else(|| {
            PluginError::invalid(format!("tape {id} does not exist or was already used"))
        })
    }

    /// Drops a tape. An unknown number is ignored.
    pub(super) fn forget(&self, id: TapeId) {
        guarded_drop(self.remove(id));
    }

    fn remove(&self, id: TapeId) -> Option<T> {
        let mut tapes = self.tapes.lock().unwrap_or_else(PoisonError::into_inner);
        tapes.remove(&id)
    }
}
