//! The host's sink behind the ABI.

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
        fn log(&self, _: LogRecord) {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::panic::panic_any(Bomb);
        }

        fn progress(&self, _: &str, _: u64, _: u64) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("no");
        }

        fn cancelled(&self, _: Call) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("no");
        }
    }

    #[test]
    fn a_panic_in_the_host_does_not_reach_the_plugin() {
        let calls = Arc::new(AtomicUsize::new(0));
        let sink = Received(wrap(PanickingSink(Arc::clone(&calls))));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            sink.log(LogRecord::new(LogLevel::INFO, "x"));
            sink.progress("x", 1, 2);
            sink.cancelled(Call::from_number(1))
        }));
        assert!(!result.unwrap());
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    struct Recorder(std::sync::Mutex<Vec<LogRecord>>);

    impl HostSink for Arc<Recorder> {
        fn log(&self, record: LogRecord) {
            self.0.lock().unwrap().push(record);
        }

        fn progress(&self, _: &str, _: u64, _: u64) {}

        fn cancelled(&self, call: Call) -> bool {
            call.number() == 5
        }
    }

    #[test]
    fn fields_and_cancellation_cross() {
        let recorder = Arc::new(Recorder(std::sync::Mutex::default()));
        let sink = Received(wrap(Arc::clone(&recorder)));
        let record = LogRecord::new(LogLevel::WARN, "slow").field("layer", 3);
        sink.log(record.clone());
        assert_eq!(*recorder.0.lock().unwrap(), [record]);
        assert!(sink.cancelled(Call::from_number(5)));
        assert!(!sink.cancelled(Call::from_number(6)));
    }
}
