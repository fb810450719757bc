//! What a caller waits for while the engine works.

use crate::staged::Staged;
use merv_plugin_api::{Call, ErrorKind, PluginError};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a waiting caller asks whether its call was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// A group that the engine has made.
#[derive(Clone)]
pub struct NewGroup {
    /// The engine's number of the group.
    pub number: u64,
    pub rank: u32,
    /// The ranks of the members in the joined group.
    pub members: Vec<u32>,
}

/// What the engine did.
pub enum Answer {
    Nothing,
    Result(Staged),
    Group(Option<NewGroup>),
}

#[derive(Default)]
struct State {
    /// The members that have not announced the operation, as text.
    missing: String,
    answer: Option<Result<Answer, PluginError>>,
}

/// The answer of the engine, when there is one.
#[derive(Clone, Default)]
pub struct Ticket(Arc<(Mutex<State>, Condvar)>);

impl Ticket {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers. A second answer is ignored.
    pub fn answer(&self, answer: Result<Answer, PluginError>) {
        self.state().answer.get_or_insert(answer);
        self.0.1.notify_all();
    }

    /// States who is missing.
    pub fn missing(&self, ranks: String) {
        self.state().missing = ranks;
    }

    /// Waits for the answer, and takes it. `doing` names the operation.
    pub fn wait(&self, doing: &str, timeout: Duration) -> Result<Answer, PluginError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.state();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            Call::current().check()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(timeout);
            if left.is_zero() {
                let message = match state.missing.is_empty() {
                    true => format!("{doing} did not finish within {timeout:?}"),
                    false => format!("{} did not start {doing} within {timeout:?}", state.missing),
                };
                return Err(PluginError::new(ErrorKind::TIMED_OUT, message));
            }
            let waited = self.0.1.wait_timeout(state, left.min(CANCEL_POLL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
