//! The limit of the process's memory (`ulimit -v`).

use std::fs;

/// The line of the limit in `/proc/self/limits`.
const LINE: &str = "Max address space";

/// Returns how many bytes of address space the process may use, if that is limited. Only Linux reports it.
pub fn limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits.lines().find_map(|line| line.strip_prefix(LINE))?;
    limit.split_whitespace().next()?.parse().ok()
}
