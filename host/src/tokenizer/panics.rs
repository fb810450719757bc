//! Converts panics of the tokenizer library to errors.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether panics of this thread are converted to errors and must not be printed.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `body` and returns a panic in it as an error, without printing it.
pub(super) fn catch<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                before(info);
            }
        }));
    });
    CATCHING.set(true);
    // Everything that `body` borrows is only read, or is dropped after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    CATCHING.set(false);
    result.unwrap_or_else(|payload| {
        Err(format!(
            "the tokenizer library failed: {}",
            panic_message(payload.as_ref())
        ))
    })
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no further details")
}

#[cfg(test)]
mod tests {
    use super::catch;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        assert_eq!(catch(|| Ok(3)), Ok(3));
        let error = catch::<()>(|| panic!("byte {} of it", 7)).unwrap_err();
        assert!(error.ends_with("byte 7 of it"), "{error}");
        assert_eq!(catch::<()>(|| Err("no".to_owned())), Err("no".to_owned()));
    }
}
