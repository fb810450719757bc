//! Reports when memory runs out. Rust aborts the process then, also in a plugin. This module handles the abort with a
//! message and exit code 1. Files are written completely or not at all, so no incomplete file remains.

use crate::args::Command;
use merv_host::causes;
use signal_hook::{consts, low_level};
use std::{
    error::Error,
    fmt, io,
    panic::{self, PanicHookInfo},
    process,
    sync::OnceLock,
};

/// The message. It is formatted in advance, while there is memory.
static MESSAGE: OnceLock<String> = OnceLock::new();

/// The prefix of the message.
const ERROR: &str = "error: ";

/// The texts of panics that mean that memory ran out: of the standard library when a thread cannot be started, and of
/// `ffmpeg-next` when FFmpeg cannot keep an option.
const PANICS: [&str; 2] = ["failed to spawn thread", "out of memory"];

/// From now on, reports when memory runs out: what `command` was doing, and what to do.
pub fn install(command: &Command) -> io::Result<()> {
    let (doing, advice) = about(command);
    let text = format!("{ERROR}memory ran out while {doing}\n  do: {advice}\n");
    let _ = MESSAGE.set(text);
    // SAFETY: the action may interrupt anything. It only reads what was set before, writes to a descriptor and ends
    // the process. It does not allocate and does not take a lock.
    #[cfg(unix)]
    unsafe {
        low_level::register(consts::SIGABRT, at_abort)?;
    }
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |about| match is_lack_of_memory(about) {
        true => {
            write_message();
            process::exit(1);
        }
        false => before(about),
    }));
    Ok(())
}

/// A lack of memory that caused another error. The advice of that error would not help.
#[derive(Debug)]
pub struct OutOfMemory {
    causes: String,
}

impl OutOfMemory {
    /// Keeps the messages of `error` and its causes, without their advice.
    pub fn new(error: &(dyn Error + 'static)) -> Self {
        let all = causes(error).fold(error.to_string(), |text, cause| format!("{text}\n{cause}"));
        let plain = |line: &'_ str| {
            let line = line.trim_start_matches([' ', '-']);
            line.strip_prefix("because: ").unwrap_or(line).to_owned()
        };
        let facts = all.lines().map(plain);
        let facts = facts.filter(|line| !line.starts_with("do: "));
        Self {
            causes: facts.map(|line| format!("\n  because: {line}")).collect(),
        }
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = MESSAGE.get().map_or("memory ran out", String::as_str);
        let message = message.trim_start_matches(ERROR).trim_end();
        write!(f, "{message}{}", self.causes)
    }
}

impl Error for OutOfMemory {}

/// Returns what a command does, and how to make it need less memory.
fn about(command: &Command) -> (&'static str, &'static str) {
    match command {
        Command::Train(_) => (
            "training",
            "raise the limit (`ulimit -v`), close other programs, or lower `device_batch`, `prefetch`, \
             `workers` or --threads; the last checkpoint is not affected, and --resume continues from it",
        ),
        Command::Encode(_) => (
            "encoding",
            "raise the limit (`ulimit -v`), close other programs, or lower --threads; features that were \
             written are kept, and the same command resumes",
        ),
        Command::Eval(_) => (
            "evaluating",
            "raise the limit (`ulimit -v`), close other programs, or lower --batch-size or --threads; \
             answers that were written are kept, and the same command resumes",
        ),
        Command::Synth(_) => (
            "making clips",
            "raise the limit (`ulimit -v`), close other programs, or lower --size or --threads",
        ),
        Command::Generate(_) | Command::Chat(_) => (
            "answering",
            "raise the limit (`ulimit -v`), close other programs, lower --threads, or choose a smaller model \
             or clip",
        ),
        _ => (
            "working",
            "raise the limit (`ulimit -v`) or close other programs",
        ),
    }
}

/// Ends the process if it aborts because an allocation failed. The last system error of the aborting thread shows
/// this. Other aborts continue.
#[cfg(unix)]
fn at_abort() {
    if io::Error::last_os_error().kind() == io::ErrorKind::OutOfMemory {
        write_message();
        low_level::exit(1);
    }
}

fn write_message() {
    if let Some(message) = MESSAGE.get() {
        // `std::io::stderr` takes a lock.
        let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
    }
}

fn is_lack_of_memory(about: &PanicHookInfo<'_>) -> bool {
    let payload = about.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or(payload.downcast_ref::<&str>().copied());
    text.is_some_and(|text| PANICS.iter().any(|panic| text.contains(panic)))
}
