//! Where the members of a new group meet.

use crate::group::Group;
use merv_plugin_api::{CollectiveRequest, ErrorKind, GroupInfo, PluginError};
use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// The groups that are not complete yet, by name.
static MEETINGS: Mutex<Option<HashMap<String, Meeting>>> = Mutex::new(None);

/// Signals that a group has become complete.
static COMPLETED: Condvar = Condvar::new();

/// The members of a group that have come.
struct Meeting {
    present: Vec<bool>,
    group: Arc<Group>,
    /// Read and written while [`MEETINGS`] is locked.
    complete: Arc<AtomicBool>,
}

type Meetings = MutexGuard<'static, Option<HashMap<String, Meeting>>>;

fn meetings() -> Meetings {
    // Nothing panics while it is locked.
    MEETINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until all members of the group have come. Returns the group and the rank of this member.
pub fn join(request: &CollectiveRequest) -> Result<(Arc<Group>, u32), PluginError> {
    let (Some(rank), Some(size)) = (request.rank, request.size) else {
        return Err(PluginError::invalid(
            "threads have no launcher: set `rank` and `size`",
        ));
    };
    if rank >= size {
        let message = format!("expected a rank below the size of the group, {size}; found {rank}");
        return Err(PluginError::invalid(message));
    }
    let name = request.rendezvous.clone().unwrap_or_default();
    let deadline = Instant::now().checked_add(request.timeout);
    let mut meetings = meetings();
    let all = meetings.get_or_insert_default();
    let meeting = all.entry(name.clone()).or_insert_with(|| Meeting {
        present: vec![false; size as usize],
        group: Group::new((0..size).collect()),
        complete: Arc::default(),
    });
    let expected = meeting.present.len();
    if expected != size as usize {
        return Err(PluginError::invalid(format!(
            "rank {rank} expects a group of {size} members, but other members of `{name}` expect {expected}"
        )));
    }
    let seat = &mut meeting.present[rank as usize];
    if std::mem::replace(seat, true) {
        let message = format!("rank {rank} of the group `{name}` was already taken");
        return Err(PluginError::invalid(message));
    }
    let (group, complete) = (Arc::clone(&meeting.group), Arc::clone(&meeting.complete));
    if meeting.present.iter().all(|&present| present) {
        complete.store(true, Ordering::Relaxed);
        all.remove(&name);
        COMPLETED.notify_all();
        return Ok((group, rank));
    }
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = left.unwrap_or(request.timeout);
        let waited = COMPLETED.wait_timeout(meetings, wait);
        meetings = waited.unwrap_or_else(PoisonError::into_inner).0;
        if complete.load(Ordering::Relaxed) {
            return Ok((group, rank));
        }
        if wait.is_zero() {
            return Err(give_up(meetings, &name, request, rank));
        }
    }
}

/// Removes a member that waited for the others in vain. Returns the error that names the missing ones.
fn give_up(
    mut meetings: Meetings,
    name: &str,
    request: &CollectiveRequest,
    rank: u32,
) -> PluginError {
    let all = meetings.get_or_insert_default();
    let mut missing = Vec::new();
    if let Some(meeting) = all.get_mut(name) {
        let present = meeting.present.iter().zip(0u32..);
        missing.extend(
            present
                .filter(|(present, _)| !**present)
                .map(|(_, rank)| rank),
        );
        meeting.present[rank as usize] = false;
        if meeting.present.iter().all(|present| !present) {
            all.remove(name);
        }
    }
    let ranks = GroupInfo::new(rank, request.size.unwrap_or(0)).name_ranks(&missing);
    PluginError::new(
        ErrorKind::TIMED_OUT,
        format!(
            "{ranks} did not join the group `{name}` within {:?}",
            request.timeout
        ),
    )
}
