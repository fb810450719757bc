//! The thread pool of a plugin.

use crate::Result;
use merv_plugin_api::{Call, HostServices, PluginError};
use std::sync::{Mutex, PoisonError};

/// Starts this library's rayon pool with as many threads as the host allows.
///
/// # Errors
///
/// When the pool exists already or its threads cannot start.
pub fn init(host: &HostServices) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(host.threads as usize)
        .thread_name(|index| format!("merv-plugin-{index}"))
        .build_global()
        .map_err(|error| {
            PluginError::unsupported("the plugin's thread pool cannot start").caused_by(&error)
        })
}

/// Runs a computation of many parallel steps on a thread of the pool. Only one computation runs at a time.
///
/// On any other thread, each step would have to wake the pool and wait for it, which takes longer than the
/// steps of small models. A tape belongs to one thread, so recording must start inside `compute`. The host's call is also
/// the current one there.
pub fn on_pool<R: Send>(compute: impl FnOnce() -> R + Send) -> R {
    static TURN: Mutex<()> = Mutex::new(());
    if rayon::current_thread_index().is_some() {
        return compute();
    }
    // A pool thread that waits for one of its parts would otherwise start another caller's computation in the
    // middle of this one, with this one's tape and locks.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let call = Call::current();
    rayon::scope(|_| call.serve(compute))
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
                assert!(
                    !running.swap(true, Ordering::SeqCst),
                    "another computation is running"
                );
                // Work for the other threads, so that this one waits and looks for more.
                (0..8)
                    .into_par_iter()
                    .for_each(|_| thread::sleep(Duration::from_millis(1)));
                assert_eq!(on_pool(|| 7), 7, "a computation can start a nested one");
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
