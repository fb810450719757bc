//! Destructors of an author's objects: their panics must not cross the boundary, nor meet another panic.

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

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }

    #[test]
    fn a_panicking_destructor_does_not_escape() {
        guarded_drop(Bomb);
        drop(Guarded::new(Bomb));
    }

    #[test]
    fn a_panicking_destructor_does_not_end_the_process_while_unwinding() {
        let result = guard::<()>("load", || {
            let _model = Guarded::new(Bomb);
            panic!("info failed");
        });
        let message = result.unwrap_err().message;
        assert_eq!(message, "panicked in `load`: info failed");
    }
}
