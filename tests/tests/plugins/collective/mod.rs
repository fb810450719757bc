//! Groups of processes, with the collective over threads.

mod failures;
mod groups;
mod results;

use merv_host::plugin::{CallError, Group, Library};
use merv_plugin_api::{
    CollectiveOperation, CollectiveRequest, ErrorKind, Reduction, TensorElement,
};
use merv_tests::artifacts;
use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_secs(1);

fn library() -> Arc<Library> {
    Library::open(artifacts().library("test_plugin_thread_group"), 1).unwrap()
}

/// A request for a group of this test: other tests use other names.
fn request(name: &str, rank: u32, size: u32) -> CollectiveRequest {
    let request = CollectiveRequest::new("threads").member(rank, size);
    request.rendezvous(name).timeout(LONG)
}

/// Runs `body` as each of `size` members, in threads, and returns their results in the order of the ranks.
#[track_caller]
fn members<T: Send>(name: &str, size: u32, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let library = library();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|rank| {
                let (library, body) = (&library, &body);
                scope.spawn(move || {
                    body(library.join_collective(&request(name, rank, size)).unwrap())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[track_caller]
fn assert_failed<T: Debug>(result: Result<T, CallError>, kind: ErrorKind, words: &[&str]) {
    let error = result.unwrap_err();
    let message = error.to_string();
    assert_eq!(error.failure.kind, kind, "{message}");
    let has_hint = [ErrorKind::TIMED_OUT, ErrorKind::ABORTED].contains(&kind);
    assert_eq!(
        message.contains("do: look at the output"),
        has_hint,
        "{message}"
    );
    for word in ["plugin `thread-group` could not"].iter().chain(words) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

/// Runs one operation on a receive tensor.
fn run<T: TensorElement>(
    group: &Group,
    operation: CollectiveOperation,
    values: &mut [T],
) -> Result<(), CallError> {
    group.scope(LONG, |scope| {
        scope.start_values(operation, None, values).map(drop)
    })
}

/// Waits until other members have counted to `count`. They do not if they have failed.
#[track_caller]
fn wait_for(counter: &AtomicUsize, count: usize) {
    let start = Instant::now();
    while counter.load(Ordering::SeqCst) < count {
        assert!(start.elapsed() < 2 * LONG, "the other members did not come");
        thread::sleep(Duration::from_millis(5));
    }
}

const SUM: CollectiveOperation = CollectiveOperation::all_reduce(Reduction::SUM);
