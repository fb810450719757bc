//! A second process at the same place: it waits for nothing and writes over nothing.

use super::commands::{Command, all};
use std::{
    fs::{self, File},
    path::Path,
    thread,
};

/// A lock file as another process would hold it.
fn held(path: &Path) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "process 7 (another)").unwrap();
    let file = File::options().append(true).open(path).unwrap();
    file.lock().unwrap();
    file
}

fn is_refused(command: &Command, lock: &str) {
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
    // Nor is what was finished written over.
    let other = held(&place.join(lock));
    let before = command.outcome(&place);
    let second = command.again(&place).finish();
    if second.code != Some(0) {
        second.failed(1, &words);
    }
    assert_eq!(command.outcome(&place), before, "{}", command.name);
    drop(other);
}

fn both_are_done(command: &Command) {
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
fn a_second_process_is_refused_or_shares() {
    for command in all() {
        match command.lock {
            Some(lock) => is_refused(&command, lock),
            None => both_are_done(&command),
        }
    }
}
