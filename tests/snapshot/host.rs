use crate::{Call, PluginError, code::open_code, guard::guard};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

open_code! {
    /// The severity of a message.
    LogLevel, "log level" {
        /// Something failed.
        ERROR = 1, "error";
        /// Something unexpected that the user should know about.
        WARN = 2, "warn";
        /// Shown with `-v`.
        INFO = 3, "info";
        /// Shown with `-vv`.
        DEBUG = 4, "debug";
    }
}

/// A message of a plugin, with fields for programs that read logs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecord {
    /// The severity.
    pub level: LogLevel,
    /// The text for people.
    pub message: String,
    /// Values by name.
    pub fields: BTreeMap<String, String>,
}

impl LogRecord {
    /// A message without fields.
    pub fn new(level: LogLevel, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            fields: BTreeMap::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl ToString) -> Self {
        self.fields.insert(name.to_owned(), value.to_string());
        self
    }
}

/// Receives what plugins report and answers what they ask. The host implements it; any thread may call it.
pub trait HostSink: Send + Sync + 'static {
    /// Shows a message to the user.
    fn log(&self, record: LogRecord);
    /// Reports that `done` of `total` units of `task` are finished.
    fn progress(&self, task: &str, done: u64, total: u64);
    /// Returns whether `call` was cancelled.
    fn cancelled(&self, call: Call) -> bool;
}

/// What the host allows and asks of a plugin, passed once to [`crate::Plugin::init`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostServices {
    /// The number of threads that the plugin may compute with, at least 1.
    pub threads: u32,
    /// The main memory in bytes that the whole process may use, if it is limited.
    #[serde(default)]
    pub memory_limit: Option<u64>,
    /// Whether results must be the same from run to run, bit for bit, on the same machine.
    #[serde(default)]
    pub deterministic: bool,
    /// Further settings, for plugins that know them.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

impl HostServices {
    /// Services for deterministic results with `threads` threads, without a limit of memory.
    pub fn new(threads: u32) -> Self {
        Self {
            threads: threads.max(1),
            memory_limit: None,
            deterministic: true,
            extra: BTreeMap::new(),
        }
    }
}

static SERVICES: OnceLock<HostServices> = OnceLock::new();
static SINK: OnceLock<Arc<dyn HostSink>> = OnceLock::new();

/// Stores the services and the sink. A second call is ignored.
pub(crate) fn keep(services: HostServices, sink: Arc<dyn HostSink>) -> &'static HostServices {
    SINK.get_or_init(|| sink);
    SERVICES.get_or_init(|| services)
}

/// Returns what [`crate::Plugin::init`] was given, or `None` before.
pub fn host() -> Option<&'static HostServices> {
    SERVICES.get()
}

/// Sends a message to the user of the host. Does nothing before `init`.
pub fn log(level: LogLevel, message: &str) {
    log_record(LogRecord::new(level, message));
}

/// Sends a message with fields to the user of the host. Does nothing before `init`.
pub fn log_record(record: LogRecord) {
    with_sink((), |sink| sink.log(record));
}

/// Reports that `done` of `total` units of `task` are finished. Does nothing before `init`.
pub fn progress(task: &str, done: u64, total: u64) {
    with_sink((), |sink| sink.progress(task, done, total));
}

impl Call {
    /// Returns whether the host cancelled the call. Any thread may ask, at any time. It costs about as much as a
    /// lock: ask for each layer or block, not for each number.
    pub fn cancelled(self) -> bool {
        self != Self::ENDLESS && with_sink(false, |sink| sink.cancelled(self))
    }

    /// Returns an error of kind [`crate::ErrorKind::CANCELLED`] if the host cancelled the call.
    ///
    /// # Errors
    ///
    /// When the host cancelled the call.
    pub fn check(self) -> Result<(), PluginError> {
        match self.cancelled() {
            true => Err(PluginError::cancelled()),
            false => Ok(()),
        }
    }
}

/// Calls the sink. Its panics are ignored: reporting must not make a computation fail.
fn with_sink<T>(otherwise: T, body: impl FnOnce(&dyn HostSink) -> T) -> T {
    let Some(sink) = SINK.get() else {
        return otherwise;
    };
    let result: Result<T, PluginError> = guard("the host's sink", || Ok(body(&**sink)));
    result.unwrap_or(otherwise)
}
