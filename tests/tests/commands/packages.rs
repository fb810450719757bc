//! The packages of the workspace.

use merv_tests::root;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// All Rust files in a folder and those below it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// A target with `test = false` has no test program, so a unit test in it would never run.
#[test]
fn targets_without_a_test_program_have_no_unit_tests() {
    let mut checked = vec![root().join("tests/src/bin")];
    for folder in ["plugins", "tests/plugins"] {
        for package in fs::read_dir(root().join(folder)).unwrap() {
            let package = package.unwrap().path();
            let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
            if manifest.lines().any(|line| line == "test = false") {
                // A library whose source is elsewhere has no unit tests of its own.
                checked.extend(Some(package.join("src")).filter(|source| source.exists()));
            }
        }
    }
    assert!(checked.len() > 5, "{checked:?}");
    for path in checked.iter().flat_map(|folder| sources(folder)) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("#[test]"), "{}", path.display());
    }
}
