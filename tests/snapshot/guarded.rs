use crate::{LogLevel, PluginError, guard::guard, host::log};

/// Drops `value`. If its destructor panics, the panic is logged and ignored.
pub(crate) fn guarded_drop<T>(value: T) {
    let dropped = guard("drop", || {
        drop(value);
        Ok(())
    });
    if let Err(error) = dropped {
        log(LogLevel::ERROR, &error.message);
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
