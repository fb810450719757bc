//! One operation of a group: what each member brought, and how it ended.

use crate::group::Group;
use merv_plugin_api::{CollectiveOperation, DType, GroupInfo, OperationKind, PluginError};
use std::{fmt, sync::Arc};

/// The addresses of a member's tensors.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// The tensor to send; null if the operation works in place.
    pub send: *const u8,
    /// The tensor to receive into; null for a barrier.
    pub receive: *mut u8,
}

// SAFETY: the addresses of elements that a member lent to the group (`Collective::start`).
unsafe impl Send for Addresses {}

/// What all members must pass alike.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// An operation on `count` elements of a dtype for each member.
    Operation {
        operation: CollectiveOperation,
        dtype: DType,
        count: usize,
    },
    Split,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation {
                operation,
                dtype,
                count,
            } => match operation.kind() {
                OperationKind::BARRIER => write!(f, "{operation}"),
                OperationKind::BROADCAST => {
                    write!(
                        f,
                        "{operation} of {count} {dtype} from rank {}",
                        operation.root()
                    )
                }
                _ => write!(f, "{operation} of {count} {dtype}"),
            },
            Self::Split => f.write_str("split"),
        }
    }
}

/// What one member brought.
#[derive(Clone, Copy)]
pub struct Entry {
    pub task: Task,
    pub addresses: Addresses,
    /// The colour and the key of a split.
    pub place: (Option<u32>, u32),
}

/// The group that a split made for a member, and the member's rank in it.
pub type Place = Option<(Arc<Group>, u32)>;

/// How a round ended, for all members.
pub type Outcome = Result<Vec<Place>, PluginError>;

pub enum Progress {
    /// Members are missing, or none of them waits.
    Open,
    /// A member computes the result. The tensors of all members are in use.
    Computing,
    /// No tensor is in use any more.
    Ended(Outcome),
}

/// One operation of a group.
pub struct Round {
    pub entries: Vec<Option<Entry>>,
    pub progress: Progress,
    /// The members that know the outcome.
    pub informed: Vec<bool>,
}

impl Round {
    pub fn new(size: usize) -> Self {
        Self {
            entries: vec![None; size],
            progress: Progress::Open,
            informed: vec![false; size],
        }
    }

    /// Returns the ranks that have not come.
    pub fn missing(&self) -> Vec<u32> {
        let entries = self.entries.iter().zip(0u32..);
        entries
            .filter(|(entry, _)| entry.is_none())
            .map(|(_, rank)| rank)
            .collect()
    }

    /// Ends the round with an error, unless it is computed or has ended.
    pub fn fail(&mut self, error: &PluginError) {
        if matches!(self.progress, Progress::Open) {
            self.progress = Progress::Ended(Err(error.clone()));
        }
    }

    /// Returns what all members brought, if all have come and brought the same task.
    pub fn gathered(&self, names: &GroupInfo) -> Option<Result<(Task, Vec<Entry>), PluginError>> {
        let entries: Vec<Entry> = self.entries.iter().copied().collect::<Option<_>>()?;
        let task = entries.first()?.task;
        if entries.iter().all(|entry| entry.task == task) {
            return Some(Ok((task, entries)));
        }
        let mut tasks: Vec<(Task, Vec<u32>)> = Vec::new();
        for (entry, rank) in entries.iter().zip(0..) {
            match tasks.iter_mut().find(|(task, _)| *task == entry.task) {
                Some((_, ranks)) => ranks.push(rank),
                None => tasks.push((entry.task, vec![rank])),
            }
        }
        let texts = tasks
            .iter()
            .map(|(task, ranks)| format!("{} started {task}", names.name_ranks(ranks)));
        Some(Err(PluginError::invalid(format!(
            "the members must start the same operation, but {}",
            texts.collect::<Vec<_>>().join(", and ")
        ))))
    }
}
