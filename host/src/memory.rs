//! Memory that ran out, as errors tell it: what failed for lack of it says nothing of the file that was read.

use crate::{
    messages::causes,
    plugin::{BoundaryError, CallError},
    video::VideoError,
};
use merv_plugin_api::ErrorKind;
use std::{error::Error, fs, io};

/// Bytes that can be allocated at once as long as memory is not short.
const ENOUGH: usize = 64 << 20;

/// What the system says where a thread, a file or a plugin reports its error as text.
const NO_MEMORY: &str = "Cannot allocate memory";
/// What it says where memory is one of several reasons: of a thread, and of a library that it cannot load.
const PERHAPS_NO_MEMORY: [&str; 2] = [
    "Resource temporarily unavailable",
    "failed to map segment from shared object",
];

/// How the line of that limit begins.
const LIMIT: &str = "Max address space";

/// Whether an error, or one of its causes, is that memory ran out.
pub fn ran_out(error: &(dyn Error + 'static)) -> bool {
    let chain = || std::iter::once(error).chain(causes(error));
    let has_text = |words: &str| chain().any(|cause| cause.to_string().contains(words));
    chain().any(says_so)
        || has_text(NO_MEMORY)
        || (PERHAPS_NO_MEMORY.into_iter().any(has_text) && (is_short() || is_limited()))
}

fn says_so(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.kind() == io::ErrorKind::OutOfMemory;
    }
    let failure = error.downcast_ref::<CallError>().map(|call| &call.failure);
    let failure = failure.or(error.downcast_ref::<BoundaryError>().map(|error| &error.0));
    if let Some(failure) = failure {
        return failure.kind == ErrorKind::OutOfMemory;
    }
    matches!(error.downcast_ref(), Some(VideoError::OutOfMemory { .. }))
}

/// Whether memory is short at this moment.
pub(crate) fn is_short() -> bool {
    Vec::<u8>::new().try_reserve_exact(ENOUGH).is_err()
}

/// Whether the process has a limit on its memory (`ulimit -v`), as Linux tells it.
fn is_limited() -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let of_memory = limits.lines().find_map(|line| line.strip_prefix(LIMIT));
    of_memory.is_some_and(|line| !line.trim_start().starts_with("unlimited"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeatureError;
    use std::path::PathBuf;

    #[test]
    fn lack_of_memory_is_found_below_other_errors() {
        let feature = |code| {
            crate::Error::from(FeatureError::Digest {
                path: PathBuf::new(),
                source: io::Error::from_raw_os_error(code),
            })
        };
        // ENOMEM and ENOSPC.
        assert!(ran_out(&feature(12)));
        assert!(!ran_out(&feature(28)));
        let video = crate::Error::from(VideoError::Ffmpeg {
            path: PathBuf::new(),
            operation: "reading",
            source: ffmpeg_next::Error::Other { errno: 12 },
        });
        assert!(ran_out(&video));
        // A thread that cannot be started says so only where memory is short or limited.
        let thread = io::Error::from_raw_os_error(11);
        assert_eq!(ran_out(&thread), is_short() || is_limited());
    }
}
