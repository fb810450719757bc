//! Receiving messages and progress from plugins. There is one listener per process, because libraries are
//! loaded once per process too.

use super::cancellation::is_cancelled;
use merv_plugin_api::{Call, HostSink, LogLevel, LogRecord};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// A message of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A line of text.
    Log {
        /// The log level.
        level: LogLevel,
        /// The plugin.
        plugin: String,
        /// The text.
        text: String,
        /// Values by name.
        fields: BTreeMap<String, String>,
    },
    /// The progress of a long task.
    Progress {
        /// The plugin.
        plugin: String,
        /// The task.
        task: String,
        /// The number of finished units.
        done: u64,
        /// The total number of units.
        total: u64,
    },
}

type Listener = Arc<dyn Fn(Message) + Send + Sync>;

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

/// Sends the messages of all plugins to `listener`, which replaces an earlier one. Without a listener,
/// messages are dropped.
pub fn on_message(listener: impl Fn(Message) + Send + Sync + 'static) {
    *LISTENER.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
}

/// The sink for the plugin with this name.
pub(super) struct Sink(pub String);

impl Sink {
    fn send(&self, message: Message) {
        // The lock is not held during the call, because a listener may set another one.
        let listener = LISTENER
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(listener) = listener {
            listener(message);
        }
    }
}

impl HostSink for Sink {
    fn log(&self, record: LogRecord) {
        self.send(Message::Log {
            level: record.level,
            plugin: self.0.clone(),
            text: record.message,
            fields: record.fields,
        });
    }

    fn cancelled(&self, call: Call) -> bool {
        is_cancelled(call)
    }

    fn progress(&self, task: &str, done: u64, total: u64) {
        let (plugin, task) = (self.0.clone(), task.to_owned());
        self.send(Message::Progress {
            plugin,
            task,
            done,
            total,
        });
    }
}
