//! A byte that changed in a file that the program wrote and reads again: the damage is named, and what was
//! damaged is not used. (Data sets, dumps and conversions are for any program to read, and carry no checksums;
//! features are checked where they are used, which `main.rs` tests.)

use super::commands::all_files;
use super::commands::{Command, eval, judge, train};
use std::{fs, path::Path};

/// Files that the next run reads, by a part of their paths.
fn flips(command: &Command, read: &[&str]) {
    let expected = command.undisturbed();
    let whole = command.place("undisturbed");
    let names: Vec<_> = all_files(&whole)
        .into_iter()
        .map(|path| path.strip_prefix(&whole).unwrap().to_owned())
        .filter(|name| {
            read.iter()
                .any(|part| name.to_string_lossy().contains(part))
        })
        .collect();
    assert!(names.len() >= read.len(), "{}: {names:?}", command.name);
    for (number, name) in names.iter().enumerate() {
        let place = command.place(&format!("flipped-{number}"));
        command.run(&place).finish().succeeded();
        // Names with times and numbers of processes differ.
        let Some(path) = twin(&place, name) else {
            continue;
        };
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let finished = command.again(&place).finish();
        let case = format!("{} with another {}", command.name, name.display());
        let file = path.file_name().unwrap().to_str().unwrap();
        let named = finished.stderr.contains(file);
        match finished.code {
            Some(0) => {
                let mut expected = expected.clone();
                if file == "metrics.jsonl" {
                    // The line is lost, and the model is not.
                    let found = command.outcome(&place);
                    expected.retain(|line| found.contains(line));
                }
                assert_eq!(command.outcome(&place), expected, "{case}: {finished}");
                let is_written_anew = file.contains("_report");
                assert!(named || is_written_anew, "{case} was not told: {finished}");
            }
            Some(1) => assert!(
                named && finished.stderr.contains("do: "),
                "{case}: {finished}"
            ),
            _ => panic!("{case}: {finished}"),
        }
    }
}

/// The file of a run that another run calls `name`.
fn twin(place: &Path, name: &Path) -> Option<std::path::PathBuf> {
    let path = place.join(name);
    if path.exists() {
        return Some(path);
    }
    let siblings = fs::read_dir(path.parent()?).ok()?.flatten();
    let mut siblings = siblings.map(|entry| entry.path());
    siblings.find(|other| other.extension() == path.extension())
}

#[test]
fn of_predictions() {
    flips(
        &eval(),
        &["pred_merge.jsonl", "settings.json", "report.json"],
    );
}

#[test]
fn of_verdicts() {
    flips(&judge(), &["toy_gpt.jsonl"]);
}

#[test]
fn of_runs() {
    let read = [
        "step-00000003/mixer",
        "step-00000003/state",
        "config.toml",
        "base.toml",
        "metrics.jsonl",
    ];
    flips(&train(), &read);
}
