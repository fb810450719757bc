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
            // The payload can be any value, and its destructor could panic again, outside `catch_unwind`.
            std::mem::forget(payload);
            Err(PluginError::new(ErrorKind::PANIC, message))
        }
    }
}

/// Drops `value`. If its destructor panics, the panic is logged and ignored.
pub(crate) fn guarded_drop<T>(value: T) {
    let dropped = guard("drop", || {
        drop(value);
        Ok(())
    });
    if let Err(error) = dropped {
        crate::log(crate::LogLevel::ERROR, &error.message);
    }
}

/// A value whose destructor may panic while another panic unwinds: it is dropped inside [`guard`].
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// After the value was dropped.
    pub(crate) fn get(&self) -> Result<&T, PluginError> {
        let value = self.0.as_ref();
        value.ok_or_else(|| PluginError::invalid("the object was dropped"))
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        guarded_drop(self.0.take());
    }
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
