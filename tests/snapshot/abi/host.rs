use super::text;
use crate::{Call, HostSink, LogLevel, LogRecord, PluginError, guard::guard};
use abi_stable::{
    sabi_trait,
    std_types::{RArc, RStr},
    type_level::downcasting::TD_Opaque,
};
use std::collections::BTreeMap;

/// What a plugin may call. Later methods have defaults for older hosts.
#[sabi_trait]
pub trait HostAbi: Send + Sync {
    /// The fields are a map of strings, as JSON.
    fn log(&self, level: LogLevel, message: RStr<'_>, fields: RStr<'_>);
    fn progress(&self, task: RStr<'_>, done: u64, total: u64);
    #[sabi(last_prefix_field)]
    fn cancelled(&self, call: Call) -> bool;
}

struct Adapter<S>(S);

/// Runs the host's code. Its panics must not cross the boundary either, and reporting must not fail.
fn ignoring_panics<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    let result: Result<T, PluginError> = guard("the host's sink", || Ok(body()));
    result.unwrap_or(otherwise)
}

impl<S: HostSink> HostAbi for Adapter<S> {
    fn log(&self, level: LogLevel, message: RStr<'_>, fields: RStr<'_>) {
        ignoring_panics((), || {
            let fields: Result<BTreeMap<String, String>, _> = text::read(fields.as_str());
            let mut record = LogRecord::new(level, message.as_str());
            record.fields = fields.unwrap_or_default();
            self.0.log(record);
        });
    }

    fn progress(&self, task: RStr<'_>, done: u64, total: u64) {
        ignoring_panics((), || self.0.progress(task.as_str(), done, total));
    }

    fn cancelled(&self, call: Call) -> bool {
        ignoring_panics(false, || self.0.cancelled(call))
    }
}

/// The sink, as a plugin receives it.
pub type WireSink = HostAbi_TO<'static, RArc<()>>;

/// Wraps a sink for a plugin.
pub(crate) fn wrap(sink: impl HostSink) -> WireSink {
    HostAbi_TO::from_ptr(RArc::new(Adapter(sink)), TD_Opaque)
}

/// A sink that a plugin received.
pub(crate) struct Received(pub WireSink);

impl HostSink for Received {
    fn log(&self, record: LogRecord) {
        let fields = text::write(&record.fields).unwrap_or_default();
        self.0.log(
            record.level,
            record.message.as_str().into(),
            fields.as_rstr(),
        );
    }

    fn progress(&self, task: &str, done: u64, total: u64) {
        self.0.progress(task.into(), done, total);
    }

    fn cancelled(&self, call: Call) -> bool {
        self.0.cancelled(call)
    }
}
