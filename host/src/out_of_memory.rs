//! What is said when memory runs out. Rust aborts the process then, in a plugin too; the abort is answered
//! with a message and exit code 1. Files are written whole or not at all, so that nothing is left half.

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

/// The message, made while there is memory.
static MESSAGE: OnceLock<String> = OnceLock::new();

/// How it begins.
const ERROR: &str = "error: ";

/// What standard libraries call a thread that they cannot start, in a panic.
const NO_THREAD: &str = "failed to spawn thread";

/// Has a lack of memory told from now on: what `command` was doing, and what to do.
pub fn tell(command: &Command) -> io::Result<()> {
    let (doing, advice) = about(command);
    let text = format!("{ERROR}memory ran out while {doing}\n  do: {advice}\n");
    let _ = MESSAGE.set(text);
    // SAFETY: the action may interrupt anything: it reads what was set before, writes to a descriptor and
    // ends the process, and neither allocates nor takes a lock.
    #[cfg(unix)]
    unsafe {
        low_level::register(consts::SIGABRT, at_abort)?;
    }
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |about| match is_lack_of_threads(about) {
        true => {
            write_message();
            process::exit(1);
        }
        false => before(about),
    }));
    Ok(())
}

/// The lack of memory behind another error, whose own advice would not help.
#[derive(Debug)]
pub struct OutOfMemory {
    causes: String,
}

impl OutOfMemory {
    /// Keeps what `error` and its causes say.
    pub fn behind(error: &(dyn Error + 'static)) -> Self {
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

/// What a command does, and how it gets along with less.
fn about(command: &Command) -> (&'static str, &'static str) {
    match command {
        Command::Train(_) => (
            "training",
            "raise the limit (`ulimit -v`), close other programs, or lower `device_batch`, `prefetch`, \
             `workers` or --threads; what the last checkpoint holds is safe, and --resume goes on from it",
        ),
        Command::Encode(_) => (
            "encoding",
            "raise the limit (`ulimit -v`), close other programs, or lower --threads; the features that were \
             written are kept, and the same command goes on",
        ),
        Command::Eval(_) => (
            "evaluating",
            "raise the limit (`ulimit -v`), close other programs, or lower --batch-size or --threads; the \
             answers that were written are kept, and the same command goes on",
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

/// Ends the process if it aborts because an allocation has failed: that is what the system's last error says
/// then, on the thread that aborts. Any other abort goes its way.
#[cfg(unix)]
fn at_abort() {
    if io::Error::last_os_error().kind() == io::ErrorKind::OutOfMemory {
        write_message();
        low_level::exit(1);
    }
}

fn write_message() {
    if let Some(message) = MESSAGE.get() {
        // Not `std::io::stderr`, which takes a lock.
        let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
    }
}

fn is_lack_of_threads(about: &PanicHookInfo<'_>) -> bool {
    let text = about.payload().downcast_ref::<String>();
    text.is_some_and(|text| text.contains(NO_THREAD))
}
