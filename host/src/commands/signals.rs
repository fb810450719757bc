//! Signals that the program handles instead of being terminated by them.

use signal_hook::{consts, flag};
use std::{
    fs, io,
    sync::{Arc, atomic::AtomicBool},
};

/// The exit code of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Makes a write that exceeds the limit on file sizes (`ulimit -f`) fail with an error, which then names the file.
pub fn survive_file_size_limit() -> io::Result<()> {
    #[cfg(unix)]
    flag::register(consts::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// Returns a flag that is set when the program is to stop: by Ctrl-C, by a scheduler, or because the terminal was
/// closed. A second signal ends the program immediately.
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

/// Returns whether `nohup` or a shell made the process ignore the signal. Systems other than Linux do not report it;
/// there the result is true.
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
