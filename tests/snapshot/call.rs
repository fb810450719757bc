use abi_stable::StableAbi;
use std::cell::Cell;

/// One call of the host into a plugin, which the host may cancel.
///
/// A method of a model does not receive it, but asks for [`Self::current`] at its start, on the thread that the host
/// called, and then checks it for each frame, layer or block. The calls that can be cancelled are those that compute:
/// `encode`, `prefill`, `decode`, `forward`, their counterparts for training, and a collective's `wait` and `split`. In
/// every other method the current call is [`Self::ENDLESS`].
#[repr(transparent)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call(u64);

thread_local! {
    static CURRENT: Cell<Call> = const { Cell::new(Call::ENDLESS) };
}

impl Call {
    /// A call that is never cancelled.
    pub const ENDLESS: Self = Self(0);

    /// The call with this number. The host numbers its calls; 0 is [`Self::ENDLESS`].
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Returns the host's number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns the call that this thread is serving. A plugin whose other threads take part in the work asks here
    /// first, and passes the result to them ([`Self::serve`]).
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// Runs `body` with this call as the current one: on a thread of the plugin that takes part in the work.
    pub fn serve<T>(self, body: impl FnOnce() -> T) -> T {
        let _outer = Restore(CURRENT.replace(self));
        body()
    }
}

/// Restores the outer call, also when the inner one panics.
struct Restore(Call);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
