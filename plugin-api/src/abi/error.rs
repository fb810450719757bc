//! [`PluginError`] as it crosses the boundary.

use crate::{ErrorKind, PluginError, guard::guard};
use abi_stable::{
    StableAbi,
    std_types::{RResult, RString, RVec},
};

/// The fields of a [`PluginError`].
#[repr(C)]
#[derive(StableAbi)]
pub struct WireError {
    kind: ErrorKind,
    message: RString,
    causes: RVec<RString>,
}

/// The result of every function that can fail.
pub(crate) type Wire<T> = RResult<T, WireError>;

impl From<PluginError> for WireError {
    fn from(error: PluginError) -> Self {
        Self {
            kind: error.kind,
            message: error.message.into(),
            causes: error.causes.into_iter().map(RString::from).collect(),
        }
    }
}

impl From<WireError> for PluginError {
    fn from(error: WireError) -> Self {
        let mut received = Self::new(error.kind, "");
        received.message = error.message.into_string();
        received.causes = error.causes.into_iter().map(RString::into_string).collect();
        received
    }
}

/// Runs `body` inside [`guard`], for the other side.
pub(crate) fn answer<T>(method: &str, body: impl FnOnce() -> Result<T, PluginError>) -> Wire<T> {
    guard(method, body).map_err(WireError::from).into()
}

/// Returns what the other side answered.
pub(crate) fn receive<T>(result: Wire<T>) -> Result<T, PluginError> {
    result.into_result().map_err(PluginError::from)
}
