//! What is said when memory runs out. Rust aborts the process then, in a plugin too; the abort is answered
//! with a message and exit code 1. Files are written whole or not at all, so that nothing is left half.

use crate::args::Command;
use signal_hook::{consts, low_level};
use std::{
    io,
    panic::{self, PanicHookInfo},
    process,
    sync::OnceLock,
};

/// The message, made while there is memory.
static MESSAGE: OnceLock<String> = OnceLock::new();

/// What standard libraries call a thread that they cannot start, in a panic.
const NO_THREAD: &str = "failed to spawn thread";

/// Has a lack of memory told from now on: what `command` was doing, and what to do.
pub fn tell(command: &Command) -> io::Result<()> {
    let (doing, advice) = about(command);
    let text = format!("error: memory ran out while {doing}\n  do: {advice}\n");
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

/// What to do where an error that is shown came of a lack of memory.
pub fn advice() -> Option<&'static str> {
    MESSAGE.get()?.lines().nth(1)
}

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
    about
        .payload_as_str()
        .is_some_and(|text| text.contains(NO_THREAD))
}
