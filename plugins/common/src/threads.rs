//! The thread pool of a plugin.

use crate::Result;
use merv_plugin_api::{HostServices, PluginError};
use std::sync::{Mutex, PoisonError};

/// Gives this library's own rayon pool as many threads as the host allows.
///
/// # Errors
///
/// When the pool exists already or its threads cannot be started.
pub fn init(host: &HostServices) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(host.threads as usize)
        .thread_name(|index| format!("merv-plugin-{index}"))
        .build_global()
        .map_err(|error| {
            PluginError::unsupported("the plugin's thread pool cannot start").caused_by(&error)
        })
}

/// Runs a computation of many parallel steps on a thread of the pool, one computation after the other.
///
/// From any other thread each step would wait for the pool to wake up and to report back, which for small
/// models takes longer than the steps. A tape is a thread's own: what is recorded has to begin inside.
pub fn on_pool<R: Send>(compute: impl FnOnce() -> R + Send) -> R {
    static ONE: Mutex<()> = Mutex::new(());
    if rayon::current_thread_index().is_some() {
        return compute();
    }
    // A thread of the pool that waits for a part of its own would begin another caller's computation
    // meanwhile, in the middle of this one: with its tape, and with its locks held.
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    rayon::scope(|_| compute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Duration,
    };

    #[test]
    fn computations_of_several_callers_do_not_run_inside_each_other() {
        let running = AtomicBool::new(false);
        let compute = || {
            on_pool(|| {
                assert!(rayon::current_thread_index().is_some());
                assert!(!running.swap(true, Ordering::SeqCst), "one is under way");
                // Parts for others, so that this thread waits and looks for work.
                (0..8)
                    .into_par_iter()
                    .for_each(|_| thread::sleep(Duration::from_millis(1)));
                assert_eq!(on_pool(|| 7), 7, "a computation may ask for another");
                running.store(false, Ordering::SeqCst);
            });
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| compute()));
            }
        });
    }
}
