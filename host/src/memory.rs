//! Recognises errors that were caused by a lack of memory. Such an error does not mean that the file is bad.

use crate::{
    address_space,
    messages::causes,
    plugin::{BoundaryError, CallError},
    video::VideoError,
};
use merv_plugin_api::ErrorKind;
use std::{error::Error, io};

/// Memory is short if this number of bytes cannot be allocated.
const ENOUGH: usize = 64 << 20;

/// The system's message, for errors that are only available as text.
const NO_MEMORY: &str = "Cannot allocate memory";
/// Messages with several possible causes, lack of memory among them: when a thread cannot be started, and
/// when a library cannot be loaded.
const PERHAPS_NO_MEMORY: [&str; 2] = [
    "Resource temporarily unavailable",
    "failed to map segment from shared object",
];

/// Returns whether an error or one of its causes is a lack of memory.
pub fn ran_out(error: &(dyn Error + 'static)) -> bool {
    let chain = || std::iter::once(error).chain(causes(error));
    let has_text = |words: &str| chain().any(|cause| cause.to_string().contains(words));
    chain().any(is_out_of_memory)
        || has_text(NO_MEMORY)
        || (PERHAPS_NO_MEMORY.into_iter().any(has_text)
            && (is_short() || address_space::limit().is_some()))
}

fn is_out_of_memory(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.kind() == io::ErrorKind::OutOfMemory;
    }
    let failure = error.downcast_ref::<CallError>().map(|call| &call.failure);
    let failure = failure.or(error.downcast_ref::<BoundaryError>().map(|error| &error.0));
    if let Some(failure) = failure {
        return failure.kind == ErrorKind::OUT_OF_MEMORY;
    }
    matches!(error.downcast_ref(), Some(VideoError::OutOfMemory { .. }))
}

/// Refuses to continue when memory is limited and nearly used up.
///
/// Call it before work that calls into other libraries. If nothing at all is left, the C library ends the process
/// by itself, because it cannot allocate the thread-local data of a plugin.
///
/// # Errors
///
/// An error of kind [`io::ErrorKind::OutOfMemory`].
pub(crate) fn check() -> io::Result<()> {
    match address_space::limit().is_some() && is_short() {
        true => Err(io::ErrorKind::OutOfMemory.into()),
        false => Ok(()),
    }
}

/// Returns whether memory is short now.
pub(crate) fn is_short() -> bool {
    Vec::<u8>::new().try_reserve_exact(ENOUGH).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeatureError;
    use std::path::PathBuf;

    #[test]
    fn lack_of_memory_is_found_among_the_causes() {
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
        // A thread that cannot be started counts only if memory is short or limited.
        let thread = io::Error::from_raw_os_error(11);
        assert_eq!(
            ran_out(&thread),
            is_short() || address_space::limit().is_some()
        );
    }
}
