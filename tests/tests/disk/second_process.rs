//! A second process in the same place. It neither waits nor overwrites anything.

use super::commands::{Command, all};
use std::{
    fs::{self, File},
    path::Path,
    thread,
};

/// A lock file that is held as if by another process.
fn held(path: &Path) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "process 7 (another)").unwrap();
    let file = File::options().append(true).open(path).unwrap();
    file.lock().unwrap();
    file
}

fn check_refused(command: &Command, lock: &str) {
    let place = command.place("held");
    let run = command.run(&place);
    let other = held(&place.join(lock));
    let words = ["is in use by process 7 (another)", "wait until"];
    run.finish().failed(1, &words);
    drop(other);
    command.run(&place).finish().succeeded();
    assert_eq!(
        command.outcome(&place),
        command.undisturbed(),
        "{}",
        command.name
    );
    // A finished result is not overwritten either.
    let other = held(&place.join(lock));
    let before = command.outcome(&place);
    let second = command.again(&place).finish();
    if second.code != Some(0) {
        second.failed(1, &words);
    }
    assert_eq!(command.outcome(&place), before, "{}", command.name);
    drop(other);
}

fn check_both_finish(command: &Command) {
    let place = command.place("two");
    let runs = [command.run(&place), command.run(&place)];
    thread::scope(|scope| {
        for run in runs {
            scope.spawn(|| run.finish().succeeded());
        }
    });
    assert_eq!(
        command.outcome(&place),
        command.undisturbed(),
        "{}",
        command.name
    );
}

#[test]
fn a_second_process_is_refused_or_shares_the_place() {
    for command in all() {
        match command.lock {
            Some(lock) => check_refused(&command, lock),
            None => check_both_finish(&command),
        }
    }
}
