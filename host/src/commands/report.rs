//! Fields that the JSON objects of several commands share.

use serde::Serializer;

/// Serialises pairs as an object, in the order of the registry.
pub(super) fn as_map<S: Serializer>(
    pairs: &[(String, f32)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(id, weight)| (id, weight)))
}

/// Returns the peak of the main memory in use, if the system reports it as Linux does.
pub(super) fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
