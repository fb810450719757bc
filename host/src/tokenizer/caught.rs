//! Calls of a library that panics where it should return an error.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether a panic of this thread is about to become an error, and needs no words of its own.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `body`; a panic in it is its error, and is not shown otherwise.
pub(super) fn caught<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                before(info);
            }
        }));
    });
    CATCHING.set(true);
    // What `body` lends is only read, or is dropped after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    CATCHING.set(false);
    result.unwrap_or_else(|payload| {
        Err(format!(
            "it is not what it must be: {}",
            said(payload.as_ref())
        ))
    })
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("nothing more is known")
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        assert_eq!(caught(|| Ok(3)), Ok(3));
        let error = caught::<()>(|| panic!("byte {} of it", 7)).unwrap_err();
        assert!(error.ends_with("byte 7 of it"), "{error}");
        assert_eq!(caught::<()>(|| Err("no".to_owned())), Err("no".to_owned()));
    }
}
