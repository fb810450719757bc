//! One member of a group, as the host sees it.

use crate::{
    engine::{self, Command},
    group::{Job, Task},
    staged::Staged,
    ticket::{Answer, NewGroup, Ticket},
};
use merv_plugin_api::{
    Collective, CollectiveBuffers, CollectiveOperation, CollectiveRequest, DType, ErrorKind,
    GroupInfo, OperationKind, PluginError, Reduction,
};
use std::{
    slice,
    time::{Duration, Instant},
};

const REDUCTIONS: [Reduction; 5] = [
    Reduction::SUM,
    Reduction::PRODUCT,
    Reduction::MIN,
    Reduction::MAX,
    Reduction::AVERAGE,
];

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::I64, DType::BF16];

/// The membership of this process in a group.
pub struct Member {
    number: u64,
    info: GroupInfo,
}

impl Member {
    /// Joins the group of all processes of the launcher.
    pub fn join(request: &CollectiveRequest) -> Result<Self, PluginError> {
        let start = Instant::now();
        let ticket = Ticket::default();
        engine::send(Command::Join(ticket.clone()))?;
        let answer = ticket.wait("the start of MPI", request.timeout)?;
        let Answer::Group(Some(group)) = answer else {
            return Err(unexpected());
        };
        let member = Self::new(group);
        let (rank, size) = (member.info.rank, member.info.size);
        for (name, requested, found) in [("rank", request.rank, rank), ("size", request.size, size)]
        {
            if let Some(requested) = requested.filter(|requested| *requested != found) {
                return Err(PluginError::invalid(format!(
                    "`{name}`: the launcher decides it; requested {requested}, the launcher says {found}"
                )));
            }
        }
        // Names the processes that have started MPI and do not come here.
        let left = request.timeout.saturating_sub(start.elapsed());
        let ticket = member.submit(BARRIER, Staged::default(), (None, 0))?;
        ticket.wait("the first barrier", left)?;
        Ok(member)
    }

    fn new(group: NewGroup) -> Self {
        let size = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
        let info = GroupInfo::new(group.rank, size).members(group.members);
        Self {
            number: group.number,
            info: info.reduces(&REDUCTIONS, &DTYPES).compared(),
        }
    }

    /// Gives a task to the engine.
    fn submit(
        &self,
        task: Task,
        send: Staged,
        place: (Option<u32>, u32),
    ) -> Result<Ticket, PluginError> {
        let ticket = Ticket::default();
        let job = Job {
            task,
            send,
            place,
            ticket: ticket.clone(),
        };
        engine::send(Command::Start {
            group: self.number,
            job,
        })?;
        Ok(ticket)
    }
}

const BARRIER: Task = Task::Operation {
    operation: CollectiveOperation::BARRIER,
    dtype: DType::U8,
    elements: 0,
};

fn unexpected() -> PluginError {
    PluginError::new(
        ErrorKind::INTERNAL,
        "the thread that calls MPI gave another answer",
    )
}

impl Drop for Member {
    fn drop(&mut self) {
        let (group, ticket) = (self.number, Ticket::default());
        let leave = Command::Leave {
            group,
            ticket: ticket.clone(),
        };
        if engine::send(leave).is_ok() {
            // The process may end afterwards, which must not happen before MPI is finalised.
            let _ = ticket.wait("the end of MPI", 2 * engine::FAREWELL);
        }
    }
}

/// A started operation.
pub struct Pending {
    ticket: Ticket,
    operation: CollectiveOperation,
    task: Task,
    dtype: DType,
    members: u32,
    /// Where the result goes, with its number of bytes.
    target: (*mut u8, usize),
}

// SAFETY: the address of elements that the caller lent until the operation has ended.
unsafe impl Send for Pending {}

impl Pending {
    /// Writes the result to the receive tensor.
    fn finish(&self, mut result: Staged) -> Result<(), PluginError> {
        if self.operation.reduction() == Reduction::AVERAGE {
            result.divide(self.dtype, self.members);
        }
        if self.operation.reduction() != Reduction::NONE && self.dtype == DType::BF16 {
            result = result.narrowed()?;
        }
        let (target, bytes) = self.target;
        if result.bytes() != bytes {
            return Err(unexpected());
        }
        // SAFETY: the receive tensor has as many bytes there, and the caller lent it until this operation has ended.
        unsafe { result.copy_to(target) };
        Ok(())
    }
}

// SAFETY: the tensors are only accessed in `start` and `wait`. MPI works on copies.
unsafe impl Collective for Member {
    type Pending = Pending;

    fn info(&self) -> GroupInfo {
        self.info.clone()
    }

    unsafe fn start(
        &self,
        operation: CollectiveOperation,
        buffers: CollectiveBuffers<'_>,
    ) -> Result<Pending, PluginError> {
        let elements = buffers.check(operation, &self.info)?;
        let CollectiveBuffers { send, mut receive } = buffers;
        let whole = receive.as_ref().map(|receive| receive.view());
        let dtype = whole.map_or(DType::U8, |view| view.dtype());
        let part = elements * dtype.size();
        // The part of this member, if the receive tensor has one for each.
        let offset = self.info.rank as usize * part;
        let received = whole
            .map(|view| view.as_bytes())
            .transpose()?
            .unwrap_or_default();
        let source = match send {
            Some(send) => send.as_bytes()?,
            None if operation.kind() == OperationKind::ALL_GATHER => &received[offset..][..part],
            None => received,
        };
        let in_part = operation.kind() == OperationKind::REDUCE_SCATTER && send.is_none();
        let bytes = if in_part { part } else { received.len() };
        // SAFETY: a slice has as many bytes.
        let mut copy = unsafe { Staged::copy_of(source.as_ptr(), source.len()) }?;
        if operation.reduction() != Reduction::NONE && dtype == DType::BF16 {
            copy = copy.widened()?;
        }
        let task = Task::Operation {
            operation,
            dtype,
            elements,
        };
        let address = receive
            .as_mut()
            .map_or(std::ptr::null_mut(), |receive| receive.as_mut_ptr());
        let address = if in_part {
            address.wrapping_add(offset)
        } else {
            address
        };
        Ok(Pending {
            ticket: self.submit(task, copy, (None, 0))?,
            operation,
            task,
            dtype,
            members: self.info.size,
            target: (address, bytes),
        })
    }

    fn wait(&self, pending: &mut Pending, timeout: Duration) -> Result<(), PluginError> {
        match pending.ticket.wait(&pending.task.to_string(), timeout)? {
            Answer::Result(result) => pending.finish(result),
            _ => Err(unexpected()),
        }
    }

    fn split(
        &self,
        colour: Option<u32>,
        key: u32,
        timeout: Duration,
    ) -> Result<Option<Self>, PluginError> {
        let ticket = self.submit(Task::Split, Staged::default(), (colour, key))?;
        match ticket.wait("split", timeout) {
            Ok(Answer::Group(group)) => Ok(group.map(Self::new)),
            Ok(_) => Err(unexpected()),
            Err(error) => {
                if [ErrorKind::TIMED_OUT, ErrorKind::CANCELLED].contains(&error.kind) {
                    // The others must not split without this member.
                    self.abort(&error.message)?;
                }
                Err(error)
            }
        }
    }

    fn abort(&self, reason: &str) -> Result<(), PluginError> {
        let name = self.info.name_ranks(slice::from_ref(&self.info.rank));
        let ticket = Ticket::default();
        engine::send(Command::Abort {
            group: self.number,
            reason: format!("{name} aborted the group: {reason}"),
            ticket: ticket.clone(),
        })?;
        ticket.wait("abort", engine::FAREWELL).map(|_| ())
    }
}
