//! Cancellation: ends long calls of plugins from another thread. The calls of a thread inside
//! [`Cancellation::scope`] can be cancelled; a plugin asks by the number of the call.

use merv_plugin_api::Call;
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Cancels calls of plugins. Clones cancel the same calls.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

thread_local! {
    /// The cancellation of the scope that this thread is in.
    static CURRENT: RefCell<Option<Cancellation>> = const { RefCell::new(None) };
}

/// The calls that run now, except those that cannot be cancelled.
static RUNNING: Mutex<Option<HashMap<u64, Cancellation>>> = Mutex::new(None);

impl Cancellation {
    /// Returns a cancellation that has not happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels all calls in its scopes, those that run and those that come. A plugin that supports it ends them soon, with
    /// an error of kind [`CANCELLED`](merv_plugin_api::ErrorKind::CANCELLED).
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs `body`. Calls that this thread makes in it can be cancelled.
    pub fn scope<T>(&self, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Cancellation>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _outer = Restore(CURRENT.replace(Some(self.clone())));
        body()
    }
}

/// A call that a plugin is about to serve. It ends when this is dropped.
pub(super) struct RunningCall(Call);

impl RunningCall {
    /// Begins a call of this thread.
    pub(super) fn begin() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Some(cancellation) = CURRENT.with_borrow(Clone::clone) else {
            return Self(Call::ENDLESS);
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.get_or_insert_default().insert(number, cancellation);
        Self(Call::from_number(number))
    }

    /// Returns what the plugin gets.
    pub(super) fn call(&self) -> Call {
        self.0
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        if self.0 != Call::ENDLESS {
            let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(calls) = &mut *running {
                calls.remove(&self.0.number());
            }
        }
    }
}

/// Returns whether a call was cancelled.
pub(super) fn is_cancelled(call: Call) -> bool {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let found = running.as_ref().and_then(|calls| calls.get(&call.number()));
    found.is_some_and(Cancellation::is_cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_running_calls_of_a_scope_are_cancelled() {
        let (outer, inner) = (Cancellation::new(), Cancellation::new());
        assert_eq!(RunningCall::begin().call(), Call::ENDLESS);
        outer.scope(|| {
            let first = RunningCall::begin();
            let second = inner.scope(RunningCall::begin);
            inner.cancel();
            assert!(!is_cancelled(first.call()));
            assert!(is_cancelled(second.call()));
            outer.clone().cancel();
            assert!(is_cancelled(first.call()));
            let number = first.call();
            drop(first);
            assert!(!is_cancelled(number), "it has ended");
            assert!(is_cancelled(RunningCall::begin().call()), "later calls too");
        });
        assert_eq!(RunningCall::begin().call(), Call::ENDLESS);
    }
}
