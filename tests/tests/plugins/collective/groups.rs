//! Groups: joined, described and divided.

use super::{LONG, SHORT, SUM, assert_failed, library, members, request, run};
use merv_host::plugin::{CallError, Group};
use merv_plugin_api::{
    CollectiveRequest, Device, DeviceKind, ErrorKind, Reduction, ReductionOrder,
};
use std::{thread, time::Duration};

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
