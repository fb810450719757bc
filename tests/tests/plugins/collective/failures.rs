//! Operations that fail, and what the other members learn.

use super::{LONG, SHORT, SUM, assert_failed, members, run, wait_for};
use merv_host::plugin::{CallError, Cancellation};
use merv_plugin_api::{
    CollectiveBuffers, CollectiveOperation, DType, Device, DeviceKind, ErrorKind, Reduction,
    Stream, TensorViewMut,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

#[test]
fn different_operations_are_refused_by_all_members() {
    members("different", 4, |group| {
        let rank = group.info().rank;
        let mut values = vec![rank as f32; if rank == 2 { 3 } else { 4 }];
        let before = values.clone();
        let result = run(&group, SUM, &mut values);
        let words = [
            "ranks 0, 1 and 3 started all-reduce (sum) of 4 f32",
            "rank 2 started all-reduce (sum) of 3 f32",
        ];
        assert_failed(result, ErrorKind::INVALID_INPUT, &words);
        assert_eq!(values, before);

        let result = match rank {
            0 => group.barrier(LONG),
            1 => group.split(None, 0, LONG).map(drop),
            _ => run(&group, CollectiveOperation::broadcast(rank), &mut [0u8]),
        };
        let words = [
            "rank 0 started barrier",
            "rank 1 started split",
            "rank 3 started broadcast of 1 u8 from rank 3",
        ];
        assert_failed(result, ErrorKind::INVALID_INPUT, &words);
        // The group is still usable.
        group.barrier(LONG).unwrap();
    });
}

#[test]
fn a_deadline_names_the_ranks_that_did_not_come() {
    let waiting = AtomicUsize::new(0);
    members("deadline", 4, |group| {
        let rank = group.info().rank;
        group.barrier(LONG).unwrap();
        if rank % 2 == 1 {
            wait_for(&waiting, 2);
            // The group was aborted when the first operation was not completed.
            assert_failed(
                group.barrier(LONG),
                ErrorKind::ABORTED,
                &["ranks 1 and 3 did not start"],
            );
            return;
        }
        let mut values = [0.0f32; 8];
        let result = group.scope(SHORT, |scope| {
            scope.all_reduce(Reduction::SUM, &mut values).map(drop)
        });
        let error = result.unwrap_err();
        // The other one may have aborted the group first.
        let kinds = [ErrorKind::TIMED_OUT, ErrorKind::ABORTED];
        assert!(kinds.contains(&error.failure.kind), "{error}");
        let message = error.to_string();
        for word in [
            "could not run all-reduce (sum)",
            "ranks 1 and 3 did not start",
            "within 1s",
        ] {
            assert!(message.contains(word), "{message}");
        }
        waiting.fetch_add(1, Ordering::SeqCst);
    });
}

#[test]
fn an_abort_wakes_every_waiter_and_ends_the_group() {
    let waiting = AtomicUsize::new(0);
    members("abort", 4, |group| {
        let rank = group.info().rank;
        let part = group.split(Some(rank % 2), 0, LONG).unwrap().unwrap();
        if rank == 3 {
            wait_for(&waiting, 3);
            thread::sleep(Duration::from_millis(30));
            group.abort("the data set is empty").unwrap();
            group.abort("a later reason").unwrap();
        } else {
            waiting.fetch_add(1, Ordering::SeqCst);
        }
        let words = ["rank 3 aborted the group: the data set is empty"];
        // Rank 1 waits in a group that was split from the aborted one.
        let waited = match rank {
            1 => part.barrier(LONG),
            _ => group.barrier(LONG),
        };
        assert_failed(waited, ErrorKind::ABORTED, &words);
        for group in [&group, &part] {
            let result = run(group, SUM, &mut [1.0f32]);
            assert_failed(result, ErrorKind::ABORTED, &words);
            assert_failed(
                group.split(None, 0, LONG).map(drop),
                ErrorKind::ABORTED,
                &words,
            );
        }
    });
}

#[test]
fn an_abort_does_not_reach_the_group_above() {
    members("abort below", 2, |group| {
        let part = group.split(Some(0), 0, LONG).unwrap().unwrap();
        if group.info().rank == 0 {
            part.abort("no reason").unwrap();
        }
        group.barrier(LONG).unwrap();
        assert_failed(part.barrier(LONG), ErrorKind::ABORTED, &["no reason"]);
    });
}

#[test]
fn a_panic_in_a_scope_aborts_the_group() {
    members("panic", 3, |group| {
        let mut values = [1.0f32; 4];
        if group.info().rank == 1 {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                group.scope::<(), CallError>(LONG, |scope| {
                    scope.all_reduce(Reduction::SUM, &mut values).map(drop)?;
                    std::panic::resume_unwind(Box::new("a bad batch"));
                })
            }));
            assert_eq!(
                *panic.unwrap_err().downcast::<&str>().unwrap(),
                "a bad batch"
            );
            return;
        }
        let result = group.scope::<_, CallError>(LONG, |scope| {
            // It may still be completed by the member that panics.
            let _ = scope.all_reduce(Reduction::SUM, &mut values)?.wait();
            scope.barrier().map(drop)
        });
        let words = ["rank 1 aborted the group: it panicked: a bad batch"];
        assert_failed(result, ErrorKind::ABORTED, &words);
    });
}

#[test]
fn a_member_that_leaves_is_not_waited_for() {
    members("leaving", 3, |group| {
        if group.info().rank == 1 {
            return;
        }
        let start = Instant::now();
        assert_failed(
            group.barrier(LONG),
            ErrorKind::ABORTED,
            &["rank 1 left the group"],
        );
        assert_failed(
            group.barrier(LONG),
            ErrorKind::ABORTED,
            &["rank 1 left the group"],
        );
        assert!(start.elapsed() < LONG / 2);
    });
}

#[test]
fn tensors_of_a_device_and_other_dtypes_are_refused() {
    members("unsupported", 1, |group| {
        let device = Device::new(DeviceKind::EXTENSION, 2);
        let address = std::ptr::without_provenance_mut(0x1000);
        let result = group.scope(LONG, |scope| {
            // SAFETY: nothing reads the memory.
            let tensor = unsafe {
                TensorViewMut::from_raw(address, DType::F32, device, &[4], Stream::COMPLETE)
            };
            let buffers = CollectiveBuffers::in_place(tensor.unwrap());
            scope.start(SUM, buffers).map(drop)
        });
        assert_failed(result, ErrorKind::UNSUPPORTED, &["main memory", "ext:2"]);
        let result = run(&group, SUM, &mut [1u8, 2]);
        assert_failed(result, ErrorKind::UNSUPPORTED, &["all-reduce (sum) of u8"]);
        let result = run(
            &group,
            CollectiveOperation::all_reduce(Reduction::AVERAGE),
            &mut [1i64, 2],
        );
        assert_failed(
            result,
            ErrorKind::INVALID_INPUT,
            &["average of i64 is not defined"],
        );
    });
}

#[test]
fn a_cancelled_member_stops_waiting() {
    let stopped = AtomicUsize::new(0);
    members("cancelled", 2, |group| {
        if group.info().rank == 1 {
            wait_for(&stopped, 1);
            let words = ["rank 0 aborted the group: the call was cancelled"];
            assert_failed(group.barrier(LONG), ErrorKind::ABORTED, &words);
            return;
        }
        let (cancellation, start) = (Cancellation::new(), Instant::now());
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                cancellation.cancel();
            });
            let result = cancellation.scope(|| group.barrier(LONG));
            assert_failed(result, ErrorKind::CANCELLED, &["the call was cancelled"]);
        });
        assert!(start.elapsed() < LONG / 2);
        stopped.store(1, Ordering::SeqCst);
    });
}
