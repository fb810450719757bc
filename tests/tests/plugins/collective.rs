//! Groups of processes, with the collective over threads: results, order, failures, and borrows that end.

use half::bf16;
use merv_host::plugin::{CallError, Group, Library};
use merv_plugin_api::{
    CollectiveBuffers, CollectiveOperation, CollectiveRequest, DType, Device, DeviceKind,
    ErrorKind, Reduction, ReductionOrder, Stream, TensorElement, TensorViewMut,
};
use merv_tests::artifacts;
use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_secs(1);

/// Not a multiple of the blocks in which the plugin reduces.
const LENGTH: usize = 10_001;

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

const SUM: CollectiveOperation = CollectiveOperation::all_reduce(Reduction::SUM);

/// Numbers whose sum depends on the order: each rank's are of another magnitude.
fn values(rank: u32, length: usize) -> Vec<f32> {
    let scale = [1.0, 3e7, -2.7e7, 0.3][rank as usize % 4];
    let varied = |i: usize| ((i * 7919 + rank as usize * 104_729) % 1000) as f32 / 999.0 - 0.4;
    (0..length).map(|i| scale * varied(i)).collect()
}

/// The values of four ranks, reduced one after another in the order of the ranks.
fn in_rank_order<T: Copy, W: Copy>(
    all: &[Vec<T>],
    widen: fn(T) -> W,
    reduce: fn(W, W) -> W,
    narrow: fn(W) -> T,
) -> Vec<T> {
    let element = |i: usize| {
        let first = reduce(widen(all[0][i]), widen(all[1][i]));
        narrow(reduce(reduce(first, widen(all[2][i])), widen(all[3][i])))
    };
    (0..all[0].len()).map(element).collect()
}

/// All-reduces the values of four members, and checks that each receives exactly `expected`.
fn assert_all_reduced<T: TensorElement + PartialEq + Debug>(
    name: &str,
    reduction: Reduction,
    all: &[Vec<T>],
    expected: &[T],
) {
    let results = members(name, 4, |group| {
        let mut values = all[group.info().rank as usize].clone();
        let sent = values.clone();
        let mut received = sent.clone();
        received.reverse();
        group
            .scope::<_, CallError>(LONG, |scope| {
                let in_place = scope.all_reduce(reduction, &mut values)?;
                let operation = CollectiveOperation::all_reduce(reduction);
                scope
                    .start_values(operation, Some(&sent), &mut received)?
                    .wait()?;
                in_place.wait().map(drop)
            })
            .unwrap();
        (values, received)
    });
    for (rank, (in_place, received)) in results.into_iter().enumerate() {
        assert!(in_place == expected, "{name}, rank {rank}, in place");
        assert!(received == expected, "{name}, rank {rank}");
    }
}

#[test]
fn a_sum_is_exactly_that_in_the_order_of_the_ranks() {
    let all: Vec<Vec<f32>> = (0..4).map(|rank| values(rank, LENGTH)).collect();
    let expected = in_rank_order(&all, |x| x, |a, b| a + b, |x| x);
    let mut reversed = all.clone();
    reversed.reverse();
    let other_order = in_rank_order(&reversed, |x| x, |a, b| a + b, |x| x);
    assert_ne!(expected, other_order, "the order must matter");
    assert_all_reduced("sum f32", Reduction::SUM, &all, &expected);

    let doubles: Vec<Vec<f64>> = all
        .iter()
        .map(|values| values.iter().map(|&x| f64::from(x) * 1.000_000_1).collect())
        .collect();
    let expected = in_rank_order(&doubles, |x| x, |a, b| a + b, |x| x);
    assert_all_reduced("sum f64", Reduction::SUM, &doubles, &expected);

    let integers: Vec<Vec<i64>> = (0..4)
        .map(|rank| vec![i64::MAX - rank, rank, -rank])
        .collect();
    let expected = in_rank_order(&integers, |x| x, i64::wrapping_add, |x| x);
    assert_all_reduced("sum i64", Reduction::SUM, &integers, &expected);
}

#[test]
fn brain_floats_are_summed_in_f32_and_rounded_once() {
    let all: Vec<Vec<bf16>> = (0..4)
        .map(|rank| {
            values(rank, LENGTH)
                .into_iter()
                .map(bf16::from_f32)
                .collect()
        })
        .collect();
    let expected = in_rank_order(&all, bf16::to_f32, |a, b| a + b, bf16::from_f32);
    let rounded = in_rank_order(&all, |x| x, |a, b| a + b, |x| x);
    assert_ne!(expected, rounded, "rounding each sum must matter");
    assert_all_reduced("sum bf16", Reduction::SUM, &all, &expected);
}

#[test]
fn other_reductions() {
    let nan = f32::NAN;
    let all = [
        [3.0f32, -1.0, nan, 1.0, 0.1],
        [1.0, -2.0, 4.0, 2.0, 0.2],
        [2.0, 7.0, 5.0, nan, 0.3],
        [1.5, 0.5, 6.0, 3.0, 0.7],
    ];
    let average = (((0.1 + 0.2) + 0.3) + 0.7) / 4.0;
    let product = 0.1 * 0.2 * 0.3 * 0.7;
    for (name, reduction, expected) in [
        ("product", Reduction::PRODUCT, [9.0, 7.0, nan, nan, product]),
        ("min", Reduction::MIN, [1.0, -2.0, nan, nan, 0.1]),
        ("max", Reduction::MAX, [3.0, 7.0, nan, nan, 0.7]),
        (
            "average",
            Reduction::AVERAGE,
            [1.875, 1.125, nan, nan, average],
        ),
    ] {
        let operation = CollectiveOperation::all_reduce(reduction);
        members(name, 4, |group| {
            let rank = group.info().rank;
            let mut values = all[rank as usize];
            run(&group, operation, &mut values).unwrap();
            for (found, expected) in values.into_iter().zip(expected) {
                let same = found == expected || (found.is_nan() && expected.is_nan());
                assert!(same, "{name}, rank {rank}: {found}, not {expected}");
            }
        });
    }
}

#[test]
fn a_reduce_scatter_gives_each_rank_its_part() {
    let part = 3001;
    let all: Vec<Vec<f32>> = (0..4).map(|rank| values(rank, 4 * part)).collect();
    let expected = in_rank_order(&all, |x| x, |a, b| a + b, |x| x);
    members("reduce-scatter", 4, |group| {
        let rank = group.info().rank as usize;
        let (mut received, mut whole) = (vec![0.0; part], all[rank].clone());
        group
            .scope::<_, CallError>(LONG, |scope| {
                scope
                    .reduce_scatter(Reduction::SUM, &all[rank], &mut received)?
                    .wait()?;
                let operation = CollectiveOperation::reduce_scatter(Reduction::SUM);
                scope.start_values(operation, None, &mut whole).map(drop)
            })
            .unwrap();
        let mine = rank * part..(rank + 1) * part;
        assert!(received == expected[mine.clone()], "rank {rank}");
        assert!(
            whole[mine.clone()] == expected[mine],
            "rank {rank}, in place"
        );

        let mut received = [0.0; 2];
        let result = group.scope(LONG, |scope| {
            scope
                .reduce_scatter(Reduction::SUM, &[1.0; 9], &mut received)
                .map(drop)
        });
        let words = [
            "reduce-scatter (sum)",
            "9 elements",
            "not a multiple of 4: pad it",
        ];
        assert_failed(result, ErrorKind::INVALID_INPUT, &words);
        group.barrier(LONG).unwrap();
    });
}

#[test]
fn an_all_gather_is_in_the_order_of_the_ranks() {
    members("all-gather", 4, |group| {
        let rank = group.info().rank;
        let part: Vec<u8> = [10, 11].map(|x| x + 20 * rank as u8).to_vec();
        let (mut gathered, mut whole) = (vec![0; 8], vec![0; 8]);
        whole[2 * rank as usize..][..2].copy_from_slice(&part);
        group
            .scope::<_, CallError>(LONG, |scope| {
                let gathered = scope.all_gather(&part, &mut gathered)?;
                scope
                    .start_values(CollectiveOperation::ALL_GATHER, None, &mut whole)?
                    .wait()?;
                assert_eq!(gathered.wait()?, [10, 11, 30, 31, 50, 51, 70, 71]);
                Ok(())
            })
            .unwrap();
        assert_eq!(whole, [10, 11, 30, 31, 50, 51, 70, 71]);
    });
}

#[test]
fn every_rank_can_be_the_root_of_a_broadcast() {
    members("broadcast", 4, |group| {
        for root in 0..4 {
            let mut values = [i64::from(group.info().rank) + 100; 3];
            run(&group, CollectiveOperation::broadcast(root), &mut values).unwrap();
            assert_eq!(values, [i64::from(root) + 100; 3]);
        }
        let result = run(&group, CollectiveOperation::broadcast(4), &mut [0u8]);
        assert_failed(result, ErrorKind::INVALID_INPUT, &["rank 4", "4 members"]);
    });
}

#[test]
fn a_barrier_waits_for_every_member() {
    let late = AtomicUsize::new(0);
    members("barrier", 4, |group| {
        for slow in 0..4 {
            if group.info().rank == slow {
                thread::sleep(Duration::from_millis(60));
                late.fetch_add(1, Ordering::SeqCst);
            }
            group.barrier(LONG).unwrap();
            assert_eq!(late.load(Ordering::SeqCst), slow as usize + 1);
            group.barrier(LONG).unwrap();
        }
    });
}

#[test]
fn operations_are_waited_for_in_any_order() {
    members("order of waits", 4, |group| {
        let rank = group.info().rank;
        let (mut sums, mut greatest) = ([rank as f32; 5], [rank as f32; 5]);
        group
            .scope::<_, CallError>(LONG, |scope| {
                let first = scope.all_reduce(Reduction::SUM, &mut sums)?;
                let second = scope.all_reduce(Reduction::MAX, &mut greatest)?;
                let (first, second) = if rank % 2 == 0 {
                    let second = second.wait()?;
                    (first.wait()?, second)
                } else {
                    (first.wait()?, second.wait()?)
                };
                assert_eq!((&*first, &*second), (&[6.0; 5][..], &[3.0; 5][..]));
                Ok(())
            })
            .unwrap();
    });
}

/// A member that is late is waited for: an operation that has not ended is still pending.
#[test]
fn asking_does_not_end_an_operation() {
    let asked = AtomicUsize::new(0);
    members("asking", 2, |group| {
        let mut values = [1.0f32];
        group
            .scope::<_, CallError>(LONG, |scope| {
                if group.info().rank == 1 {
                    while asked.load(Ordering::SeqCst) == 0 {
                        thread::yield_now();
                    }
                }
                let sum = scope.all_reduce(Reduction::SUM, &mut values)?;
                if group.info().rank == 0 {
                    assert!(!sum.has_ended());
                    asked.store(1, Ordering::SeqCst);
                    while !sum.has_ended() {
                        thread::yield_now();
                    }
                    assert!(sum.has_ended());
                }
                assert_eq!(sum.wait()?, [2.0]);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn even_and_odd_ranks_form_groups() {
    members("split", 5, |group| {
        let rank = group.info().rank;
        // The last rank has no colour. Keys reverse the order of the others.
        let colour = (rank < 4).then_some(rank % 2);
        let part = group.split(colour, 10 - rank, LONG).unwrap();
        match &part {
            Some(part) => check_part(rank, part),
            None => assert_eq!(rank, 4),
        }
        // No member leaves its part before this.
        group.barrier(LONG).unwrap();
    });
}

fn check_part(rank: u32, part: &Group) {
    let expected = [[2, 0], [3, 1]][rank as usize % 2];
    assert_eq!(part.info().members, expected);
    assert_eq!(part.info().size, 2);
    assert_eq!(expected[part.info().rank as usize], rank);
    let (mine, mut gathered) = ([rank], [0; 2]);
    part.scope::<_, CallError>(LONG, |scope| {
        scope.all_gather(&mine, &mut gathered).map(drop)
    })
    .unwrap();
    assert_eq!(gathered, expected);
    if rank == 1 {
        let words = [
            "barrier",
            "rank 0 (rank 3 of the joined group) did not start",
        ];
        assert_failed(part.barrier(SHORT), ErrorKind::TIMED_OUT, &words);
    }
}

#[test]
fn a_part_can_be_split() {
    members("split twice", 4, |group| {
        let rank = group.info().rank;
        let part = group
            .split(Some(u32::from(rank > 0)), 0, LONG)
            .unwrap()
            .unwrap();
        if rank > 0 {
            let part = part.split(Some(7), 10 - rank, LONG).unwrap().unwrap();
            assert_eq!(part.info().members, [3, 2, 1]);
            let mut sum = [i64::from(rank)];
            run(&part, SUM, &mut sum).unwrap();
            assert_eq!(sum, [6]);
        }
    });
}

#[test]
fn a_group_is_split_when_its_operations_have_ended() {
    members("busy split", 2, |group| {
        let mut values = [1.0f32];
        group
            .scope::<_, CallError>(LONG, |scope| {
                let sum = scope.all_reduce(Reduction::SUM, &mut values)?;
                let result = group.split(Some(0), 0, LONG).map(drop);
                assert_failed(
                    result,
                    ErrorKind::INVALID_INPUT,
                    &["wait for the operations"],
                );
                sum.wait()?;
                let part = group.split(Some(0), 0, LONG)?.unwrap();
                assert_eq!(part.info().size, 2);
                Ok(())
            })
            .unwrap();
    });
}

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
            while waiting.load(Ordering::SeqCst) < 2 {
                thread::sleep(Duration::from_millis(5));
            }
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
fn joining_names_the_ranks_that_did_not_come() {
    let library = library();
    let join = |rank| {
        let request = request("nobody comes", rank, 3).timeout(SHORT);
        library.join_collective(&request).map(drop)
    };
    for _ in 0..2 {
        assert_failed(
            join(1),
            ErrorKind::TIMED_OUT,
            &["ranks 0 and 2 did not join", "nobody comes"],
        );
    }
}

#[test]
fn an_abort_wakes_every_waiter_and_ends_the_group() {
    let waiting = AtomicUsize::new(0);
    members("abort", 4, |group| {
        let rank = group.info().rank;
        let part = group.split(Some(rank % 2), 0, LONG).unwrap().unwrap();
        if rank == 3 {
            while waiting.load(Ordering::SeqCst) < 3 {
                thread::sleep(Duration::from_millis(5));
            }
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
fn requests_that_cannot_be_met_are_refused() {
    let library = library();
    let refused = |request: &CollectiveRequest, kind, words: &[&str]| {
        assert_failed(library.join_collective(request).map(drop), kind, words);
    };
    let (invalid, unsupported) = (ErrorKind::INVALID_INPUT, ErrorKind::UNSUPPORTED);
    let alone = || request("refused", 0, 1);
    refused(
        &CollectiveRequest::new("threads"),
        invalid,
        &["set `rank` and `size`"],
    );
    refused(
        &CollectiveRequest::new("mpi").member(0, 1),
        unsupported,
        &["`threads`, not `mpi`"],
    );
    refused(
        &request("refused", 2, 2),
        invalid,
        &["below the size of the group, 2; found 2"],
    );
    let cuda = Device::new(DeviceKind::CUDA, 0);
    refused(&alone().device(cuda), unsupported, &["`device`", "cuda:0"]);
    refused(
        &alone().option("ring", 2),
        invalid,
        &["does not know the option `ring`"],
    );
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            library
                .join_collective(&request("refused pair", 0, 2))
                .map(drop)
        });
        thread::sleep(Duration::from_millis(50));
        refused(
            &request("refused pair", 0, 2),
            invalid,
            &["rank 0", "already taken"],
        );
        refused(
            &request("refused pair", 1, 3),
            invalid,
            &["a group of 3", "expect 2"],
        );
        library
            .join_collective(&request("refused pair", 1, 2))
            .unwrap();
        first.join().unwrap().unwrap();
    });
}

#[test]
fn a_group_describes_itself() {
    let infos = members("described", 2, |group| group.info().clone());
    for (rank, info) in (0..).zip(&infos) {
        assert_eq!(
            (info.rank, info.size, &info.members[..]),
            (rank, 2, &[0, 1][..])
        );
        assert_eq!(info.order, ReductionOrder::RANK);
        assert!(info.compared && info.devices.is_empty());
    }
}

/// Many operations in flight, each waited for at another time by each member.
#[test]
fn many_operations_at_once() {
    let sums = Mutex::new(0);
    members("many", 4, |group| {
        let rank = u64::from(group.info().rank);
        let mut seed = rank * 7919 + 1;
        for round in 0..30u64 {
            let mut buffers: Vec<Vec<i64>> = (0..20)
                .map(|i| vec![(round * 20 + i + rank) as i64; 1 + i as usize])
                .collect();
            group
                .scope::<_, CallError>(LONG, |scope| {
                    let mut pending = Vec::new();
                    for (buffer, i) in buffers.iter_mut().zip(0..) {
                        pending.push((i, scope.all_reduce(Reduction::SUM, buffer)?));
                    }
                    while pending.len() > 5 {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let chosen = (seed >> 33) as usize % pending.len();
                        let (i, sum) = pending.swap_remove(chosen);
                        let expected = 4 * (round * 20 + i) + 6;
                        assert!(sum.wait()?.iter().all(|&x| x == expected as i64));
                    }
                    Ok(())
                })
                .unwrap();
            for (buffer, i) in buffers.iter().zip(0u64..) {
                assert!(
                    buffer
                        .iter()
                        .all(|&x| x == (4 * (round * 20 + i) + 6) as i64)
                );
            }
        }
        *sums.lock().unwrap() += 1;
    });
    assert_eq!(*sums.lock().unwrap(), 4);
}
