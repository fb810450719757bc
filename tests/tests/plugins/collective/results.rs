//! What operations compute, and when they end.

use super::{LONG, assert_failed, members, run, wait_for};
use half::bf16;
use merv_host::plugin::CallError;
use merv_plugin_api::{CollectiveOperation, ErrorKind, Reduction, TensorElement};
use std::{
    fmt::Debug,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// Not a multiple of the blocks in which the plugin reduces.
const LENGTH: usize = 10_001;

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
                    wait_for(&asked, 1);
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
