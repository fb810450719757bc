//! Where messages and progress of plugins go: one listener for the process, since libraries are
//! loaded once for the process too.

use merv_plugin_api::{HostSink, LogLevel};
use std::sync::{Arc, PoisonError, RwLock};

/// What a plugin tells its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A line of text.
    Log {
        /// How loud.
        level: LogLevel,
        /// The plugin.
        plugin: String,
        /// The line.
        text: String,
    },
    /// How far a long task has come.
    Progress {
        /// The plugin.
        plugin: String,
        /// The task.
        task: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
}

type Listener = Arc<dyn Fn(Message) + Send + Sync>;

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

/// Sends the messages of all plugins to `listener`, in place of an earlier one. Without a listener
/// they are dropped.
pub fn on_message(listener: impl Fn(Message) + Send + Sync + 'static) {
    *LISTENER.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
}

/// The sink handed to the plugin `0`.
pub(super) struct Sink(pub String);

impl Sink {
    fn send(&self, message: Message) {
        // Not held during the call: a listener may set another one.
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
    fn log(&self, level: LogLevel, message: &str) {
        self.send(Message::Log {
            level,
            plugin: self.0.clone(),
            text: message.to_owned(),
        });
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
