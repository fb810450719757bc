//! Runs the plugin for MPI in the processes of `mpirun -n 4 check_mpi LIBRARY`. `scripts/check-mpi` builds and runs it.

use merv_host::plugin::{CallError, Group, Library};
use merv_plugin_api::{
    CollectiveOperation, CollectiveRequest, ErrorKind, Reduction, TensorElement,
};
use std::{
    env,
    fmt::Debug,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);

const SUM: CollectiveOperation = CollectiveOperation::all_reduce(Reduction::SUM);

fn main() {
    let path = env::args_os()
        .nth(1)
        .expect("the path of the plugin's library");
    let library = Library::open(Path::new(&path), 1).expect("a plugin");
    let request = CollectiveRequest::new("mpi").timeout(LONG);
    let group = library.join_collective(&request).expect("a group");
    assert_eq!(group.info().size, 4, "run it with `mpirun -n 4`");
    for (name, check) in [
        ("all-reduce", all_reduce as fn(&Group)),
        ("reduce-scatter", reduce_scatter),
        ("all-gather", all_gather),
        ("broadcast", broadcast),
        ("barrier", barrier),
        ("operations in flight", in_flight),
        ("different operations", different),
        ("sub-group", sub_groups),
        ("deadline in a sub-group", late_in_a_sub_group),
        ("deadline", late),
    ] {
        let start = Instant::now();
        check(&group);
        if group.info().rank == 0 {
            println!("{name}: passed in {:.1?}", start.elapsed());
        }
    }
}

fn rank(group: &Group) -> usize {
    group.info().rank as usize
}

/// Runs one operation on a receive tensor.
fn run<T: TensorElement>(
    group: &Group,
    operation: CollectiveOperation,
    values: &mut [T],
    timeout: Duration,
) -> Result<(), CallError> {
    group.scope(timeout, |scope| {
        scope.start_values(operation, None, values).map(drop)
    })
}

fn assert_failed<T: Debug>(result: Result<T, CallError>, kinds: &[ErrorKind], words: &[&str]) {
    let error = result.expect_err("the operation should have failed");
    let message = error.to_string();
    assert!(kinds.contains(&error.failure.kind), "{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

fn all_reduce(group: &Group) {
    let mine = rank(group) as i32;
    // Enough for several messages. The sums are exact in any order.
    let mut floats: Vec<f32> = (0..1_000_003)
        .map(|i| (i % 1000 + 1000 * mine) as f32)
        .collect();
    let before = floats.clone();
    run(group, SUM, &mut floats, LONG).unwrap();
    for (i, &sum) in floats.iter().enumerate() {
        assert_eq!(sum, (4 * (i % 1000) + 6000) as f32, "element {i}");
    }
    let mut received = vec![0.0; before.len()];
    group
        .scope::<_, CallError>(LONG, |scope| {
            scope
                .start_values(SUM, Some(&before), &mut received)
                .map(drop)
        })
        .unwrap();
    assert!(received == floats, "out of place");
    for (reduction, expected) in [
        (Reduction::PRODUCT, 24.0f64),
        (Reduction::MIN, 1.0),
        (Reduction::MAX, 4.0),
        (Reduction::AVERAGE, 2.5),
    ] {
        let mut values = [f64::from(mine + 1); 3];
        run(
            group,
            CollectiveOperation::all_reduce(reduction),
            &mut values,
            LONG,
        )
        .unwrap();
        assert_eq!(values, [expected; 3], "{reduction}");
    }
    // In `bf16`, 256 + 1 is 256. In `f32` the sum is 259, which rounds to 260.
    let one = half::bf16::from_f32(if mine == 0 { 256.0 } else { 1.0 });
    let mut values = [one; 5];
    run(group, SUM, &mut values, LONG).unwrap();
    assert_eq!(values, [half::bf16::from_f32(259.0); 5]);
    let mut integers = [i64::MAX / 8, i64::from(mine)];
    run(group, SUM, &mut integers, LONG).unwrap();
    assert_eq!(integers, [i64::MAX / 8 * 4, 6]);
}

fn reduce_scatter(group: &Group) {
    let mine = rank(group);
    let mut values: Vec<f32> = (0..12).map(|i| (i + 100 * mine) as f32).collect();
    let sent = values.clone();
    let mut part = [0.0; 3];
    let operation = CollectiveOperation::reduce_scatter(Reduction::SUM);
    group
        .scope::<_, CallError>(LONG, |scope| {
            scope
                .reduce_scatter(Reduction::SUM, &sent, &mut part)?
                .wait()?;
            scope.start_values(operation, None, &mut values).map(drop)
        })
        .unwrap();
    let expected = [0, 1, 2].map(|i| (4 * (3 * mine + i) + 600) as f32);
    assert_eq!(part, expected);
    assert_eq!(values[3 * mine..][..3], expected, "in place");
}

fn all_gather(group: &Group) {
    let mine = rank(group) as u8;
    let (part, mut all) = ([10 + mine, 20 + mine], [0; 8]);
    let mut whole = [0; 8];
    whole[2 * rank(group)..][..2].copy_from_slice(&part);
    group
        .scope::<_, CallError>(LONG, |scope| scope.all_gather(&part, &mut all).map(drop))
        .unwrap();
    run(group, CollectiveOperation::ALL_GATHER, &mut whole, LONG).unwrap();
    assert_eq!(all, [10, 20, 11, 21, 12, 22, 13, 23]);
    assert_eq!(whole, all, "in place");
}

fn broadcast(group: &Group) {
    for root in 0..4 {
        let mut values = [rank(group) as i32; 1000];
        run(
            group,
            CollectiveOperation::broadcast(root),
            &mut values,
            LONG,
        )
        .unwrap();
        assert_eq!(values, [root as i32; 1000]);
    }
}

fn barrier(group: &Group) {
    let start = Instant::now();
    if rank(group) == 2 {
        thread::sleep(SHORT);
    }
    group.barrier(LONG).unwrap();
    assert!(
        start.elapsed() >= SHORT / 2,
        "it did not wait: {:?}",
        start.elapsed()
    );
}

fn in_flight(group: &Group) {
    let (mut first, mut second) = (vec![1.0f32; 100_000], vec![rank(group) as i64; 3]);
    group
        .scope::<_, CallError>(LONG, |scope| {
            let sum = scope.all_reduce(Reduction::SUM, &mut first)?;
            let most = scope.all_reduce(Reduction::MAX, &mut second)?;
            if rank(group).is_multiple_of(2) {
                assert_eq!(most.wait()?, [3; 3]);
                assert_eq!(sum.wait()?[99_999], 4.0);
            } else {
                assert_eq!(sum.wait()?[0], 4.0);
                assert_eq!(most.wait()?, [3; 3]);
            }
            Ok(())
        })
        .unwrap();
}

fn different(group: &Group) {
    let mut values = vec![1.0f32; if rank(group) == 2 { 3 } else { 4 }];
    let result = run(group, SUM, &mut values, LONG);
    let words = [
        "ranks 0, 1 and 3 started all-reduce (sum) of 4 f32",
        "rank 2 started all-reduce (sum) of 3 f32",
    ];
    assert_failed(result, &[ErrorKind::INVALID_INPUT], &words);
    group.barrier(LONG).unwrap();
}

/// Even and odd ranks, in the reverse order.
fn halves(group: &Group) -> Group {
    let mine = group.info().rank;
    group
        .split(Some(mine % 2), 10 - mine, LONG)
        .unwrap()
        .expect("every rank has a colour")
}

fn sub_groups(group: &Group) {
    let half = halves(group);
    let expected = [[2u32, 0], [3, 1]][rank(group) % 2];
    assert_eq!(half.info().members, expected);
    let (mine, mut all) = ([group.info().rank as i32], [0; 2]);
    half.scope::<_, CallError>(LONG, |scope| scope.all_gather(&mine, &mut all).map(drop))
        .unwrap();
    assert_eq!(all, expected.map(|rank| rank as i32));
    assert!(group.split(None, 0, LONG).unwrap().is_none());
}

fn late_in_a_sub_group(group: &Group) {
    let half = halves(group);
    let words = [
        "rank 0 (rank 2 of the joined group) did not start barrier",
        "within 1s",
    ];
    match rank(group) {
        0 => {
            assert_failed(half.barrier(SHORT), &[ErrorKind::TIMED_OUT], &words);
            group.barrier(LONG).unwrap();
        }
        2 => {
            group.barrier(LONG).unwrap();
            assert_failed(half.barrier(LONG), &[ErrorKind::ABORTED], &words);
        }
        _ => group.barrier(LONG).unwrap(),
    }
}

/// The last check: it aborts the group.
fn late(group: &Group) {
    let kinds = [ErrorKind::TIMED_OUT, ErrorKind::ABORTED];
    group.barrier(LONG).unwrap();
    let words = ["rank 3 did not start all-reduce (sum) of 2 f32 within 1s"];
    if rank(group) == 3 {
        thread::sleep(4 * SHORT);
        assert_failed(group.barrier(LONG), &[ErrorKind::ABORTED], &words);
    } else {
        assert_failed(run(group, SUM, &mut [1.0f32; 2], SHORT), &kinds, &words);
        assert_failed(group.barrier(LONG), &[ErrorKind::ABORTED], &words);
    }
}
