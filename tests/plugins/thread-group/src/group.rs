//! The state that the members of one group share.

use crate::{
    combine,
    round::{Entry, Outcome, Place, Progress, Round, Task},
};
use merv_plugin_api::{Call, ErrorKind, GroupInfo, PluginError, guard};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

/// How often a waiting member asks whether its call was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// A group of members.
pub struct Group {
    /// The ranks of the members in the joined group.
    members: Vec<u32>,
    state: Mutex<State>,
    /// Signals that a round has ended or has become complete.
    changed: Condvar,
}

struct State {
    rounds: BTreeMap<u64, Round>,
    /// The number of the next round of each member.
    next: Vec<u64>,
    left: Vec<bool>,
    aborted: Option<PluginError>,
    children: Vec<Weak<Group>>,
}

impl State {
    /// Forgets the rounds that nobody will ask about.
    fn tidy(&mut self) {
        let left = &self.left;
        self.rounds.retain(|_, round| {
            let mut members = round.informed.iter().zip(left);
            !members.all(|(informed, left)| *informed || *left)
        });
    }
}

impl Group {
    /// A group whose members have these ranks in the joined group.
    pub fn new(members: Vec<u32>) -> Arc<Self> {
        let size = members.len();
        Arc::new(Self {
            members,
            state: Mutex::new(State {
                rounds: BTreeMap::new(),
                next: vec![0; size],
                left: vec![false; size],
                aborted: None,
                children: Vec::new(),
            }),
            changed: Condvar::new(),
        })
    }

    /// Returns the number and the names of the members, as a member sees them.
    pub fn names(&self, rank: u32) -> GroupInfo {
        let size = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        GroupInfo::new(rank, size).members(self.members.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a member brings to its next round. Returns the round's number.
    pub fn enter(&self, rank: u32, entry: Entry) -> Result<u64, PluginError> {
        let (mut state, member) = (self.state(), rank as usize);
        if let Some(error) = &state.aborted {
            return Err(error.clone());
        }
        let pending = |round: &Round| round.entries[member].is_some() && !round.informed[member];
        if entry.task == Task::Split && state.rounds.values().any(pending) {
            let message = "wait for the operations of this group before splitting it";
            return Err(PluginError::invalid(message));
        }
        let number = state.next[member];
        state.next[member] += 1;
        let size = self.members.len();
        let round = state
            .rounds
            .entry(number)
            .or_insert_with(|| Round::new(size));
        round.entries[member] = Some(entry);
        self.fail_without_left(&mut state);
        self.changed.notify_all();
        Ok(number)
    }

    /// Ends the rounds that lack a member that has left.
    fn fail_without_left(&self, state: &mut State) {
        for round in state.rounds.values_mut() {
            let mut missing = round.missing();
            missing.retain(|&rank| state.left[rank as usize]);
            if !missing.is_empty() {
                let message = format!("{} left the group", self.names(0).name_ranks(&missing));
                round.fail(&PluginError::new(ErrorKind::ABORTED, message));
            }
        }
    }

    /// Waits until a round has ended. Computes its result if all members have come and none of them does it.
    pub fn wait(&self, rank: u32, number: u64, timeout: Duration) -> Result<Place, PluginError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.state();
        loop {
            let Some(round) = state.rounds.get_mut(&number) else {
                return Err(PluginError::invalid("the operation has ended"));
            };
            match &round.progress {
                Progress::Ended(outcome) => {
                    let outcome = outcome.clone();
                    round.informed[rank as usize] = true;
                    state.tidy();
                    return outcome.map(|places| places.into_iter().nth(rank as usize).flatten());
                }
                Progress::Computing => {}
                Progress::Open => match round.gathered(&self.names(rank)) {
                    Some(Ok((task, entries))) => {
                        round.progress = Progress::Computing;
                        drop(state);
                        let outcome = guard("compute", || Ok(self.compute(task, &entries)));
                        state = self.state();
                        self.end(&mut state, number, outcome.unwrap_or_else(Err));
                        continue;
                    }
                    Some(Err(error)) => {
                        self.end(&mut state, number, Err(error));
                        continue;
                    }
                    None => {}
                },
            }
            Call::current().check()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(timeout);
            if left.is_zero() {
                return Err(self.timed_out(rank, &state, number, timeout));
            }
            let waited = self.changed.wait_timeout(state, left.min(CANCEL_POLL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end(&self, state: &mut State, number: u64, outcome: Outcome) {
        if let Some(round) = state.rounds.get_mut(&number) {
            round.progress = Progress::Ended(outcome);
        }
        self.changed.notify_all();
    }

    fn timed_out(&self, rank: u32, state: &State, number: u64, timeout: Duration) -> PluginError {
        let round = state.rounds.get(&number);
        let missing = round.map(Round::missing).unwrap_or_default();
        let task = round
            .and_then(|round| round.entries[rank as usize])
            .map(|entry| entry.task);
        let task = task.map(|task| task.to_string()).unwrap_or_default();
        let message = match missing.is_empty() {
            true => format!("{task} did not finish within {timeout:?}"),
            false => format!(
                "{} did not start operation {number} of the group, {task}, within {timeout:?}",
                self.names(rank).name_ranks(&missing)
            ),
        };
        PluginError::new(ErrorKind::TIMED_OUT, message)
    }

    fn compute(&self, task: Task, entries: &[Entry]) -> Outcome {
        let Task::Operation {
            operation,
            dtype,
            count,
        } = task
        else {
            return self.divide(entries);
        };
        let addresses: Vec<_> = entries.iter().map(|entry| entry.addresses).collect();
        // SAFETY: every member lent its tensors until this round ends (`Collective::start`), and has as many elements
        // as `count` states, because all tasks are equal. The adapter checked that, and `Member::start` that they are
        // in main memory. A round is computed by one thread.
        unsafe { combine::combine(operation, dtype, count, &addresses) }?;
        Ok(vec![None; entries.len()])
    }

    /// Makes the groups of a split.
    fn divide(&self, entries: &[Entry]) -> Outcome {
        let mut places = vec![None; entries.len()];
        let mut colours: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
        for (rank, entry) in entries.iter().enumerate() {
            if let (Some(colour), key) = entry.place {
                colours.entry(colour).or_default().push((key, rank));
            }
        }
        let mut state = self.state();
        if let Some(error) = &state.aborted {
            return Err(error.clone());
        }
        state.children.retain(|child| child.strong_count() > 0);
        for mut members in colours.into_values() {
            members.sort_unstable();
            let joined = members.iter().map(|&(_, rank)| self.members[rank]);
            let group = Self::new(joined.collect());
            state.children.push(Arc::downgrade(&group));
            for (&(_, rank), new_rank) in members.iter().zip(0..) {
                places[rank] = Some((Arc::clone(&group), new_rank));
            }
        }
        Ok(places)
    }

    /// Ends every open round with an error, refuses everything afterwards, and does the same with the groups that were
    /// split from this one. Returns when no tensor is in use any more.
    pub fn abort(&self, error: &PluginError) {
        let mut state = self.state();
        let error = state.aborted.get_or_insert_with(|| error.clone()).clone();
        // Whoever learns that this group was aborted finds those below it aborted.
        for child in state.children.iter().filter_map(Weak::upgrade) {
            child.abort(&error);
        }
        for round in state.rounds.values_mut() {
            round.fail(&error);
        }
        self.changed.notify_all();
        drop(self.computed(state, |_| true));
    }

    /// Waits until none of the rounds with these numbers is being computed.
    fn computed<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        which: impl Fn(u64) -> bool,
    ) -> MutexGuard<'s, State> {
        let busy = |state: &State| {
            let mut rounds = state.rounds.iter().filter(|(number, _)| which(**number));
            rounds.any(|(_, round)| matches!(round.progress, Progress::Computing))
        };
        while busy(&state) {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Ends a round that a member gives up. Returns when its tensors are not in use any more.
    pub fn give_up(&self, rank: u32, number: u64) {
        let state = self.state();
        let mut state = self.computed(state, |other| other == number);
        if let Some(round) = state.rounds.get_mut(&number) {
            let name = self.names(rank).name_ranks(&[rank]);
            let message = format!("{name} gave up the operation");
            round.fail(&PluginError::new(ErrorKind::ABORTED, message));
            let informed = std::mem::replace(&mut round.informed[rank as usize], true);
            if let (false, Progress::Ended(Ok(places))) = (informed, &round.progress)
                && let Some((group, rank)) = &places[rank as usize]
            {
                // A split that ended just after this member stopped waiting for it.
                group.leave(*rank);
            }
        }
        state.tidy();
        self.changed.notify_all();
    }

    /// Removes a member. Rounds that it has not entered cannot become complete any more.
    pub fn leave(&self, rank: u32) {
        let mut state = self.state();
        state.left[rank as usize] = true;
        self.fail_without_left(&mut state);
        state.tidy();
        self.changed.notify_all();
    }
}
