use super::error::WireError;
use crate::{ErrorKind, PluginError};
use abi_stable::std_types::{RResult, RString};
use serde::{Serialize, de::DeserializeOwned};

/// Returns a value as text.
pub(crate) fn write(value: &impl Serialize) -> Result<RString, PluginError> {
    let text = serde_json::to_string(value);
    text.map(RString::from).map_err(|error| {
        let message = format!("a value cannot cross the plugin boundary: {error}");
        PluginError::new(ErrorKind::UNSUPPORTED, message)
    })
}

/// Returns the value of a text.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, PluginError> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("a value that crossed the plugin boundary cannot be read: {error}");
        PluginError::new(ErrorKind::UNSUPPORTED, message)
    })
}

/// Returns the value of a text that a call returned.
pub(crate) fn received<T: DeserializeOwned>(
    result: RResult<RString, WireError>,
) -> Result<T, PluginError> {
    read(&super::error::receive(result)?)
}
