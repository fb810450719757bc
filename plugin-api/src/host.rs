//! The services that the host offers a plugin: logging, progress, the number of threads.

use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RArc, RStr},
    type_level::downcasting::TD_Opaque,
};
use std::sync::OnceLock;

/// The severity of a message.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something unexpected that the user should know about.
    Warn,
    /// Shown with `-v`.
    Info,
    /// Shown with `-vv`.
    Debug,
}

/// The object behind [`HostServices`]. The host implements [`HostSink`]; plugins call [`log`] and
/// [`progress`].
#[sabi_trait]
#[doc(hidden)]
pub trait HostSinkAbi: Send + Sync {
    fn log(&self, level: LogLevel, message: RStr<'_>);
    #[sabi(last_prefix_field)]
    fn progress(&self, task: RStr<'_>, done: u64, total: u64);
}

/// Receives the messages and the progress of plugins. The host implements it; any thread may call it.
pub trait HostSink: Send + Sync + 'static {
    /// Shows a message to the user.
    fn log(&self, level: LogLevel, message: &str);
    /// Reports that `done` of `total` units of `task` are finished.
    fn progress(&self, task: &str, done: u64, total: u64);
}

/// Runs host code that a plugin called, and ignores its panics: they must not cross the boundary either.
fn ignoring_panics(body: impl FnOnce()) {
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        // Its destructor could panic again.
        std::mem::forget(payload);
    }
}

struct SinkAdapter<S>(S);

impl<S: HostSink> HostSinkAbi for SinkAdapter<S> {
    fn log(&self, level: LogLevel, message: RStr<'_>) {
        ignoring_panics(|| {
            self.0.log(level, message.as_str());
        });
    }

    fn progress(&self, task: RStr<'_>, done: u64, total: u64) {
        ignoring_panics(|| {
            self.0.progress(task.as_str(), done, total);
        });
    }
}

/// Passed to each plugin once, in `init`. The plugin owns it from then on.
#[repr(C)]
#[derive(StableAbi)]
pub struct HostServices {
    /// The number of threads that the plugin may compute with, at least 1.
    pub threads: u32,
    sink: HostSinkAbi_TO<'static, RArc<()>>,
}

impl HostServices {
    /// Makes services that forward to `sink`.
    pub fn new<S: HostSink>(threads: u32, sink: S) -> Self {
        let sink = HostSinkAbi_TO::from_ptr(RArc::new(SinkAdapter(sink)), TD_Opaque);
        Self {
            threads: threads.max(1),
            sink,
        }
    }
}

static SERVICES: OnceLock<HostServices> = OnceLock::new();

/// Stores the services for [`log`] and [`progress`]. A second call is ignored.
pub(crate) fn keep(services: HostServices) -> &'static HostServices {
    SERVICES.get_or_init(|| services)
}

/// Sends a message to the user of the host. Does nothing before `init`.
pub fn log(level: LogLevel, message: &str) {
    if let Some(services) = SERVICES.get() {
        services.sink.log(level, message.into());
    }
}

/// Reports that `done` of `total` units of `task` are finished. Does nothing before `init`.
pub fn progress(task: &str, done: u64, total: u64) {
    if let Some(services) = SERVICES.get() {
        services.sink.progress(task.into(), done, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    /// Panics in every call. The payload of `log` panics again when it is dropped.
    struct PanickingSink(Arc<AtomicUsize>);

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("again");
            }
        }
    }

    impl HostSink for PanickingSink {
        fn log(&self, _: LogLevel, _: &str) {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::panic::panic_any(Bomb);
        }

        fn progress(&self, _: &str, _: u64, _: u64) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("no");
        }
    }

    #[test]
    fn a_panic_in_the_host_does_not_reach_the_plugin() {
        let calls = Arc::new(AtomicUsize::new(0));
        let adapter = SinkAdapter(PanickingSink(Arc::clone(&calls)));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            HostSinkAbi::log(&adapter, LogLevel::Info, "x".into());
            HostSinkAbi::progress(&adapter, "x".into(), 1, 2);
        }));
        assert!(result.is_ok());
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
