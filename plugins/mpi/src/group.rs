//! A group in the engine: what its members announced, what runs, and who has left.

use crate::{
    staged::Staged,
    ticket::{Answer, Ticket},
    transport::{Comm, Request},
};
use merv_plugin_api::{
    CollectiveOperation, DType, ErrorKind, GroupInfo, OperationKind, PluginError, Reduction,
};
use std::{
    collections::{BTreeMap, VecDeque},
    ffi::c_int,
    fmt,
};

/// The message of a member that starts an operation.
const ANNOUNCE: c_int = 1;
/// The message of a member that aborts the group. It contains the reason.
const ABORT: c_int = 2;
/// The message of a member that leaves.
const LEAVE: c_int = 3;

/// What a member does next, as all members must do it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Operation {
        operation: CollectiveOperation,
        dtype: DType,
        elements: usize,
    },
    Split,
}

impl Task {
    fn words(self) -> [u64; 5] {
        match self {
            Self::Split => [u64::MAX, 0, 0, 0, 0],
            Self::Operation {
                operation,
                dtype,
                elements,
            } => [
                operation.kind().number().into(),
                operation.reduction().number().into(),
                operation.root().into(),
                u64::from(dtype.code) | u64::from(dtype.bits) << 8 | u64::from(dtype.lanes) << 16,
                elements as u64,
            ],
        }
    }

    fn of_words([kind, reduction, root, dtype, elements]: [u64; 5]) -> Self {
        if kind == u64::MAX {
            return Self::Split;
        }
        Self::Operation {
            operation: CollectiveOperation::new(
                OperationKind::from_number(kind as u32),
                Reduction::from_number(reduction as u32),
                root as u32,
            ),
            dtype: DType {
                code: dtype as u8,
                bits: (dtype >> 8) as u8,
                lanes: (dtype >> 16) as u16,
            },
            elements: elements as usize,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split => f.write_str("split"),
            Self::Operation {
                operation,
                dtype,
                elements,
            } => match operation.kind() {
                OperationKind::BARRIER => write!(f, "{operation}"),
                OperationKind::BROADCAST => {
                    write!(
                        f,
                        "{operation} of {elements} {dtype} from rank {}",
                        operation.root()
                    )
                }
                _ => write!(f, "{operation} of {elements} {dtype}"),
            },
        }
    }
}

/// A task of this member, with what only it has.
pub struct Job {
    pub task: Task,
    /// The copy of what is sent.
    pub send: Staged,
    /// The colour and the key of a split.
    pub place: (Option<u32>, u32),
    pub ticket: Ticket,
}

/// A group that a split made.
pub struct Born {
    pub comm: Comm,
    pub members: Vec<u32>,
    pub ticket: Ticket,
}

pub struct Group {
    comm: Comm,
    names: GroupInfo,
    /// The number of the next job.
    next: u64,
    /// The jobs that MPI has not started, in their order.
    queue: VecDeque<(u64, Job)>,
    running: Vec<(Request, Task, Ticket)>,
    /// What was announced, by the number of the job and by rank.
    announced: BTreeMap<u64, Vec<Option<Task>>>,
    sends: Vec<Request>,
    left: Vec<bool>,
    pub aborted: Option<PluginError>,
    /// Whether MPI may never end an operation that it has started.
    pub stuck: bool,
    pub children: Vec<u64>,
}

impl Group {
    /// A group whose members have these ranks in the joined group.
    pub fn new(comm: Comm, members: Vec<u32>) -> Self {
        let size = members.len();
        Self {
            names: GroupInfo::new(comm.rank, comm.size).members(members),
            comm,
            next: 0,
            queue: VecDeque::new(),
            running: Vec::new(),
            announced: BTreeMap::new(),
            sends: Vec::new(),
            left: vec![false; size],
            aborted: None,
            stuck: false,
            children: Vec::new(),
        }
    }

    /// Returns whether MPI has something to do.
    pub fn is_busy(&self) -> bool {
        !(self.queue.is_empty() && self.running.is_empty() && self.sends.is_empty())
    }

    /// Returns whether all other members have left and know that this one has.
    pub fn is_empty(&self) -> bool {
        self.left.iter().all(|&left| left) && self.sends.is_empty()
    }

    /// Announces a job.
    pub fn start(&mut self, job: Job) {
        if let Some(error) = &self.aborted {
            job.ticket.answer(Err(error.clone()));
            return;
        }
        let number = self.next;
        self.next += 1;
        let words = [number].into_iter().chain(job.task.words());
        let message: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        self.note(number, self.comm.rank, job.task);
        self.queue.push_back((number, job));
        self.tell(ANNOUNCE, &message);
        self.name_missing();
    }

    /// Leaves the group.
    pub fn leave(&mut self) {
        let rank = self.comm.rank as usize;
        self.left[rank] = true;
        self.tell(LEAVE, &[]);
    }

    /// Aborts the group for this member and, with `tell`, for the others.
    pub fn abort(&mut self, error: PluginError, tell: bool) {
        if self.aborted.is_some() {
            return;
        }
        for (_, job) in self.queue.drain(..) {
            job.ticket.answer(Err(error.clone()));
        }
        self.stuck = !self.running.is_empty();
        for (_request, _, ticket) in self.running.drain(..) {
            ticket.answer(Err(error.clone()));
        }
        if tell {
            self.tell(ABORT, error.message.as_bytes());
        }
        self.aborted = Some(error);
    }

    /// Sends a message to all other members. If MPI fails, the group is aborted.
    fn tell(&mut self, tag: c_int, message: &[u8]) {
        let rank = self.comm.rank;
        for to in (0..self.comm.size).filter(|to| *to != rank) {
            match self.comm.send(to, tag, message) {
                Ok(request) => self.sends.push(request),
                Err(error) => self.abort(error, false),
            }
        }
    }

    fn note(&mut self, number: u64, rank: u32, task: Task) {
        let size = self.comm.size as usize;
        let tasks = self
            .announced
            .entry(number)
            .or_insert_with(|| vec![None; size]);
        if let Some(place) = tasks.get_mut(rank as usize) {
            *place = Some(task);
        }
    }

    /// Does what can be done without waiting. Returns whether something happened.
    pub fn progress(&mut self, born: &mut Vec<Born>) -> bool {
        let happened = self
            .receive()
            .and_then(|received| Ok(self.start_next(born)? | self.test()? | received));
        happened.unwrap_or_else(|error| {
            self.abort(error, true);
            true
        })
    }

    fn receive(&mut self) -> Result<bool, PluginError> {
        let mut received = false;
        while let Some((rank, tag, message)) = self.comm.receive()? {
            received = true;
            match tag {
                ANNOUNCE => {
                    let mut words = message
                        .chunks_exact(8)
                        .map(|bytes| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default());
                    let number = words.next().unwrap_or_default();
                    let mut task = [0; 5];
                    task.iter_mut()
                        .zip(words)
                        .for_each(|(word, sent)| *word = sent);
                    self.note(number, rank, Task::of_words(task));
                }
                ABORT => {
                    let reason = String::from_utf8_lossy(&message);
                    self.abort(PluginError::new(ErrorKind::ABORTED, reason), false);
                }
                _ => self.left[rank as usize] = true,
            }
        }
        if received {
            self.name_missing();
        }
        Ok(received)
    }

    /// Returns the members that have not announced a job.
    fn missing(&self, number: u64) -> Vec<u32> {
        let announced = self
            .announced
            .get(&number)
            .into_iter()
            .flatten()
            .zip(0u32..);
        announced
            .filter(|(task, _)| task.is_none())
            .map(|(_, rank)| rank)
            .collect()
    }

    /// Tells the callers of waiting jobs who is missing, or that it will not come any more.
    fn name_missing(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        for (number, job) in queue {
            let missing = self.missing(number);
            let gone: Vec<u32> = missing
                .iter()
                .copied()
                .filter(|&rank| self.left[rank as usize])
                .collect();
            if gone.is_empty() {
                let names = match missing.is_empty() {
                    true => String::new(),
                    false => self.names.name_ranks(&missing),
                };
                job.ticket.missing(names);
                self.queue.push_back((number, job));
            } else {
                let message = format!("{} left the group", self.names.name_ranks(&gone));
                job.ticket
                    .answer(Err(PluginError::new(ErrorKind::ABORTED, message)));
                self.announced.remove(&number);
            }
        }
    }

    /// Starts the jobs that all members have announced, in their order.
    fn start_next(&mut self, born: &mut Vec<Born>) -> Result<bool, PluginError> {
        let mut started = false;
        while let Some(number) = self.queue.front().map(|(number, _)| *number)
            && self.missing(number).is_empty()
            && let Some((number, job)) = self.queue.pop_front()
        {
            started = true;
            let tasks = self.announced.remove(&number).unwrap_or_default();
            if let Some(error) = self.difference(&tasks) {
                job.ticket.answer(Err(error));
                continue;
            }
            match job.task {
                Task::Split => self.split(job, born)?,
                Task::Operation {
                    operation,
                    dtype,
                    elements,
                } => {
                    let request = self.comm.start(operation, dtype, elements, job.send);
                    match request {
                        Ok(request) => self.running.push((request, job.task, job.ticket)),
                        Err(error) => job.ticket.answer(Err(error)),
                    }
                }
            }
        }
        Ok(started)
    }

    /// Returns the error of members that announced different tasks.
    fn difference(&self, tasks: &[Option<Task>]) -> Option<PluginError> {
        let mut groups: Vec<(Task, Vec<u32>)> = Vec::new();
        for (task, rank) in tasks.iter().flatten().zip(0..) {
            match groups.iter_mut().find(|(other, _)| other == task) {
                Some((_, ranks)) => ranks.push(rank),
                None => groups.push((*task, vec![rank])),
            }
        }
        if groups.len() < 2 {
            return None;
        }
        let texts = groups
            .iter()
            .map(|(task, ranks)| format!("{} started {task}", self.names.name_ranks(ranks)));
        Some(PluginError::invalid(format!(
            "the members must start the same operation, but {}",
            texts.collect::<Vec<_>>().join(", and ")
        )))
    }

    fn split(&mut self, job: Job, born: &mut Vec<Born>) -> Result<(), PluginError> {
        let (colour, key) = job.place;
        let Some(comm) = self.comm.split(colour, key)? else {
            job.ticket.answer(Ok(Answer::Group(None)));
            return Ok(());
        };
        let members = comm.gather_now(self.names.members[self.comm.rank as usize])?;
        born.push(Born {
            comm,
            members,
            ticket: job.ticket,
        });
        Ok(())
    }

    /// Answers for the operations that MPI has finished.
    fn test(&mut self) -> Result<bool, PluginError> {
        let mut happened = false;
        for (mut request, task, ticket) in std::mem::take(&mut self.running) {
            if !request.is_finished()? {
                self.running.push((request, task, ticket));
                continue;
            }
            happened = true;
            let in_place = matches!(
                task,
                Task::Operation { operation, .. } if operation.kind() == OperationKind::BROADCAST
            );
            let (sent, received) = request.into_copies();
            ticket.answer(Ok(Answer::Result(if in_place { sent } else { received })));
        }
        for mut send in std::mem::take(&mut self.sends) {
            match send.is_finished()? {
                true => happened = true,
                false => self.sends.push(send),
            }
        }
        Ok(happened)
    }
}
