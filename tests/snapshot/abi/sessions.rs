use crate::{PluginError, SessionId, guarded::guarded_drop};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Sessions by number, or other states that stay in the plugin. Calls for the same session wait for each other.
pub(super) struct Sessions<S> {
    /// What a session is called in messages, and the state that it has while it is here.
    names: [&'static str; 2],
    sessions: Mutex<HashMap<SessionId, Arc<Mutex<S>>>>,
    next: AtomicU64,
}

impl<S> Sessions<S> {
    pub(super) fn new(names: [&'static str; 2]) -> Self {
        Self {
            names,
            sessions: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    pub(super) fn insert(&self, session: S) -> SessionId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.table().insert(id, Arc::new(Mutex::new(session)));
        id
    }

    /// Drops a session. An unknown number is ignored.
    pub(super) fn close(&self, id: SessionId) {
        let removed = self.table().remove(&id);
        guarded_drop(removed);
    }

    /// Calls `body` with one session.
    ///
    /// # Errors
    ///
    /// When the session is not open or is unusable, and the error of `body`.
    pub(super) fn with<T>(
        &self,
        id: SessionId,
        body: impl FnOnce(&mut S) -> Result<T, PluginError>,
    ) -> Result<T, PluginError> {
        let found = self.find(id)?;
        let mut session = self.lock(id, &found)?;
        body(&mut session)
    }

    /// Calls `body` with several sessions, in the order of `ids`.
    ///
    /// # Errors
    ///
    /// When a session appears twice, is not open or is unusable, and the error of `body`.
    pub(super) fn with_all<T>(
        &self,
        ids: &[SessionId],
        body: impl FnOnce(&mut [&mut S]) -> Result<T, PluginError>,
    ) -> Result<T, PluginError> {
        // Locked in ascending order, so two overlapping calls cannot deadlock.
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|&i| ids[i]);
        if order.windows(2).any(|pair| ids[pair[0]] == ids[pair[1]]) {
            return Err(PluginError::invalid("a session appears twice in one call"));
        }
        let found = order
            .iter()
            .map(|&i| self.find(ids[i]))
            .collect::<Result<Vec<_>, PluginError>>()?;
        let mut guards = order
            .iter()
            .zip(&found)
            .map(|(&i, session)| Ok((i, self.lock(ids[i], session)?)))
            .collect::<Result<Vec<_>, PluginError>>()?;
        guards.sort_unstable_by_key(|(i, _)| *i);
        let mut sessions: Vec<&mut S> = guards.iter_mut().map(|(_, state)| &mut **state).collect();
        body(&mut sessions)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Mutex<S>>>> {
        // Entries are only inserted and removed, so a panic cannot leave the table half changed.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: SessionId) -> Result<Arc<Mutex<S>>, PluginError> {
        let found = self.table().get(&id).cloned();
        let [name, state] = self.names;
        found.ok_or_else(|| PluginError::invalid(format!("{name} {id} is not {state}")))
    }

    fn lock<'s>(
        &self,
        id: SessionId,
        session: &'s Mutex<S>,
    ) -> Result<MutexGuard<'s, S>, PluginError> {
        let name = self.names[0];
        session.lock().map_err(|_| {
            PluginError::invalid(format!(
                "{name} {id} is unusable because of an earlier panic"
            ))
        })
    }
}

impl<S> Drop for Sessions<S> {
    fn drop(&mut self) {
        let sessions = std::mem::take(&mut *self.table());
        guarded_drop(sessions);
    }
}
