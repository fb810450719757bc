use crate::{ErrorKind, PluginError};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs `body` and turns a panic into an error of kind [`ErrorKind::PANIC`] that names `method`.
///
/// Every exported function of every plugin runs inside it.
///
/// # Errors
///
/// The error of `body`, and its panic.
pub fn guard<T>(
    method: &str,
    body: impl FnOnce() -> Result<T, PluginError>,
) -> Result<T, PluginError> {
    // After a panic, the state that `body` borrowed may be half changed. The adapters keep such state
    // behind mutexes, so a later use finds the mutex poisoned and returns an error.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => {
            let message = format!(
                "panicked in `{method}`: {}",
                panic_message(payload.as_ref())
            );
            drop_payload(payload);
            Err(PluginError::new(ErrorKind::PANIC, message))
        }
    }
}

/// Drops the payload of a panic. It can be any value, and its destructor could panic again, with another payload.
fn drop_payload(mut payload: Box<dyn Any + Send>) {
    for _ in 0..8 {
        match catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

/// Returns the text of a panic.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "(the panic carried no message)"
    }
}
