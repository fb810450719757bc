//! Signals that are answered, in place of ending the program at once.

use signal_hook::{consts, flag};
use std::{
    fs, io,
    sync::{Arc, atomic::AtomicBool},
};

/// What a program that was interrupted exits with.
const INTERRUPTED: i32 = 130;

/// Lets a write that exceeds the limit on file sizes (`ulimit -f`) fail with an error, which names the file.
pub fn outlive_file_size_limit() -> io::Result<()> {
    #[cfg(unix)]
    flag::register(consts::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// A flag that is set when somebody asks the program to stop: by Ctrl-C, by a scheduler, or by closing the
/// terminal. Whoever asks a second time does not want to wait.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = vec![consts::SIGINT, consts::SIGTERM];
    #[cfg(unix)]
    if !is_ignored(consts::SIGHUP) {
        signals.push(consts::SIGHUP);
    }
    for signal in signals {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Whether `nohup` or a shell has the signal ignored, as Linux tells it; elsewhere it counts as ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        return true;
    };
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}
