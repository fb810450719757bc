//! A changed byte in a file that the program wrote and reads again. The damage is reported, and damaged data are not
//! used. Data sets, dumps and conversions are read by any program and do not have checksums. Features are checked when
//! they are used, which `main.rs` tests.

use super::commands::all_files;
use super::commands::{Command, eval, judge, train};
use std::{fs, path::Path};

/// Flips a byte of each file whose path contains one of `read`. The next run reads these files.
fn check_flips(command: &Command, read: &[&str]) {
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
        // Names that contain times and process numbers differ.
        let Some(path) = twin(&place, name) else {
            continue;
        };
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let finished = command.again(&place).finish();
        let case = format!("{} with a changed {}", command.name, name.display());
        let file = path.file_name().unwrap().to_str().unwrap();
        let named = finished.stderr.contains(file);
        match finished.code {
            Some(0) => {
                let mut expected = expected.clone();
                if file == "metrics.jsonl" {
                    // The line is lost, but not the model.
                    let found = command.outcome(&place);
                    expected.retain(|line| found.contains(line));
                }
                assert_eq!(command.outcome(&place), expected, "{case}: {finished}");
                let is_regenerated = file.contains("_report");
                assert!(
                    named || is_regenerated,
                    "{case} was not reported: {finished}"
                );
            }
            Some(1) => assert!(
                named && finished.stderr.contains("do: "),
                "{case}: {finished}"
            ),
            _ => panic!("{case}: {finished}"),
        }
    }
}

/// The file in `place` that corresponds to the file `name` of another run.
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
fn in_predictions() {
    check_flips(
        &eval(),
        &["pred_merge.jsonl", "settings.json", "report.json"],
    );
}

#[test]
fn in_verdicts() {
    check_flips(&judge(), &["toy_gpt.jsonl"]);
}

#[test]
fn in_training_runs() {
    let read = [
        "step-00000003/mixer",
        "step-00000003/state",
        "config.toml",
        "base.toml",
        "metrics.jsonl",
    ];
    check_flips(&train(), &read);
}
