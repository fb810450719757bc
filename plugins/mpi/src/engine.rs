//! The thread that makes all calls of MPI.

use crate::{
    group::{Born, Group, Job},
    ticket::{Answer, NewGroup, Ticket},
    transport::Comm,
};
use merv_plugin_api::{ErrorKind, PluginError};
use mpi::{Threading, environment::Universe};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// The shortest and the longest pause between two looks at what MPI does.
const PAUSES: [Duration; 2] = [Duration::from_micros(10), Duration::from_millis(1)];

/// How long the last group waits for the other members to leave.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// What the engine is asked to do.
pub enum Command {
    /// Joins the group of all processes.
    Join(Ticket),
    Start {
        group: u64,
        job: Job,
    },
    Abort {
        group: u64,
        reason: String,
        ticket: Ticket,
    },
    /// Leaves a group. Finalises MPI with the last one.
    Leave {
        group: u64,
        ticket: Ticket,
    },
}

/// Sends a command to the engine, and starts it with the first.
pub fn send(command: Command) -> Result<(), PluginError> {
    static COMMANDS: OnceLock<Mutex<Sender<Command>>> = OnceLock::new();
    let ended = || PluginError::new(ErrorKind::INTERNAL, "the thread that calls MPI has ended");
    let commands = COMMANDS.get_or_init(|| {
        let (sender, receiver) = channel();
        let engine = thread::Builder::new().name("mpi".to_owned());
        // Without the thread, the receiver is dropped and every command fails.
        let _ = engine.spawn(move || Engine::default().run(&receiver));
        Mutex::new(sender)
    });
    let commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
    commands.send(command).map_err(|_| ended())
}

#[derive(Default)]
struct Engine {
    universe: Option<Universe>,
    groups: BTreeMap<u64, Group>,
    /// The groups that this process has left.
    left: Vec<u64>,
    next: u64,
    /// The last ticket of a process that leaves its last group, and when it stops waiting for the others.
    farewell: Option<(Ticket, Instant)>,
    /// Whether MPI can no longer be finalised, because operations may never end.
    broken: bool,
}

impl Engine {
    fn run(mut self, commands: &Receiver<Command>) {
        let mut pause = PAUSES[0];
        loop {
            let busy = self.farewell.is_some() || self.groups.values().any(Group::is_busy);
            let first = match busy {
                true => commands.recv_timeout(pause),
                false => commands.recv().map_err(RecvTimeoutError::from),
            };
            if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            let mut happened = first.is_ok();
            for command in first.into_iter().chain(commands.try_iter()) {
                self.obey(command);
            }
            happened |= self.progress();
            pause = match happened {
                true => PAUSES[0],
                false => (pause * 2).min(PAUSES[1]),
            };
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join(ticket) => match self.join() {
                Ok(comm) => {
                    let members = (0..comm.size).collect();
                    self.add(Born {
                        comm,
                        members,
                        ticket,
                    });
                }
                Err(error) => ticket.answer(Err(error)),
            },
            Command::Start { group, job } => match self.groups.get_mut(&group) {
                Some(group) => group.start(job),
                None => job
                    .ticket
                    .answer(Err(PluginError::invalid("the group was left"))),
            },
            Command::Abort {
                group,
                reason,
                ticket,
            } => {
                self.abort(group, &PluginError::new(ErrorKind::ABORTED, reason), true);
                ticket.answer(Ok(Answer::Nothing));
            }
            Command::Leave { group, ticket } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.leave();
                }
                self.left.push(group);
                match self.groups.keys().all(|group| self.left.contains(group)) {
                    true => self.farewell = Some((ticket, Instant::now() + FAREWELL)),
                    false => ticket.answer(Ok(Answer::Nothing)),
                }
            }
        }
    }

    fn join(&mut self) -> Result<Comm, PluginError> {
        if mpi::environment::is_finalized() || self.broken {
            let message = "this process has left MPI, which can be joined only once";
            return Err(PluginError::unsupported(message));
        }
        if self.universe.is_none() {
            let started = mpi::initialize_with_threading(Threading::Funneled);
            let Some((universe, _)) = started else {
                let message = "something else in this process has started MPI";
                return Err(PluginError::unsupported(message));
            };
            self.universe = Some(universe);
        }
        Comm::world()
    }

    fn add(&mut self, born: Born) -> u64 {
        let number = self.next;
        self.next += 1;
        born.ticket.answer(Ok(Answer::Group(Some(NewGroup {
            number,
            rank: born.comm.rank,
            members: born.members.clone(),
        }))));
        self.groups
            .insert(number, Group::new(born.comm, born.members));
        number
    }

    /// Aborts a group and those that were split from it.
    fn abort(&mut self, group: u64, error: &PluginError, tell: bool) {
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        group.abort(error.clone(), tell);
        for child in group.children.clone() {
            self.abort(child, error, false);
        }
    }

    /// Does what can be done without waiting. Returns whether something happened.
    fn progress(&mut self) -> bool {
        let mut happened = false;
        for number in self.groups.keys().copied().collect::<Vec<_>>() {
            let mut born = Vec::new();
            if let Some(group) = self.groups.get_mut(&number) {
                happened |= group.progress(&mut born);
            }
            let children: Vec<u64> = born.into_iter().map(|born| self.add(born)).collect();
            let Some(group) = self.groups.get_mut(&number) else {
                continue;
            };
            group.children.extend(children);
            self.broken |= group.stuck;
            if let Some(error) = group.aborted.clone() {
                for child in group.children.clone() {
                    self.abort(child, &error, false);
                }
            }
        }
        let left = &self.left;
        self.groups
            .retain(|number, group| !(left.contains(number) && group.is_empty()));
        self.end();
        happened
    }

    /// Finalises MPI when all groups were left.
    fn end(&mut self) {
        let Some((ticket, deadline)) = self.farewell.take_if(|(_, deadline)| {
            self.groups.is_empty() || self.broken || Instant::now() >= *deadline
        }) else {
            return;
        };
        self.broken |= !self.groups.is_empty() && Instant::now() >= deadline;
        // Messages about an abort have to go out, as far as the other members take them.
        let flush = Instant::now() + FAREWELL / 10;
        while self.broken && self.groups.values().any(Group::is_busy) && Instant::now() < flush {
            for group in self.groups.values_mut() {
                group.progress(&mut Vec::new());
            }
            thread::sleep(PAUSES[1]);
        }
        match (self.broken, self.universe.take()) {
            // Dropping it finalises MPI.
            (false, universe) => drop(universe),
            (true, universe) => std::mem::forget(universe),
        }
        self.groups.clear();
        ticket.answer(Ok(Answer::Nothing));
    }
}
