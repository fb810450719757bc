//! Files that PyTorch wrote in every format, compared with the same tensors as safetensors
//! (`tests/python/make_checkpoints.py`).

use crate::{Checkpoint, ShardIndex};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const CASES: [&str; 7] = [
    "beside-tensors",
    "dtypes",
    "merv",
    "merv-align",
    "merv-old-names",
    "state-dict",
    "views",
];

const FORMATS: [&str; 3] = ["zip", "legacy", "protocol4"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/checkpoint")
        .join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&[fixture(name)]).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn assert_same(what: &str, found: &Checkpoint, expected: &Checkpoint) {
    let names = |checkpoint: &Checkpoint| checkpoint.names().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    assert!(!expected.is_empty());
    for (name, expected) in expected.iter() {
        let found = found.get(name).unwrap();
        assert_eq!(found.dtype, expected.dtype, "{what}: {name}");
        assert_eq!(found.shape, expected.shape, "{what}: {name}");
        assert_eq!(found.read(), expected.bytes(), "{what}: {name}, copied");
        assert_eq!(found.bytes(), expected.bytes(), "{what}: {name}");
    }
}

#[test]
fn every_fixture_is_a_case() {
    let stems: BTreeSet<String> = fs::read_dir(fixture(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .split('.')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(stems.into_iter().collect::<Vec<_>>(), CASES);
}

#[test]
fn every_format_has_the_same_tensors() {
    for case in CASES {
        let expected = open(&format!("{case}.safetensors"));
        for format in FORMATS {
            assert_same(
                &format!("{case}, {format}"),
                &open(&format!("{case}.{format}.pt")),
                &expected,
            );
        }
    }
}

#[test]
fn other_values_are_listed_with_their_kinds() {
    for format in FORMATS {
        let checkpoint = open(&format!("beside-tensors.{format}.pt"));
        let ignored: BTreeSet<_> = checkpoint.ignored().collect();
        for expected in [
            ("step", "an integer"),
            ("big", "an integer"),
            ("loss", "a number"),
            ("name", "a string"),
            ("done", "a boolean"),
            ("none", "None"),
            ("betas.1", "a number"),
            ("list.1.1", "a string"),
            ("size.0", "an integer"),
            ("device", "a device"),
            ("dtype", "a type or function"),
            ("numpy", "a numpy number"),
            ("raw", "bytes"),
        ] {
            assert!(
                ignored.contains(&expected),
                "{format}: {expected:?} not in {ignored:?}"
            );
        }
    }
}

#[test]
fn shards_are_one_checkpoint() {
    let shards = ShardIndex::read(&fixture("sharded/pytorch_model.bin.index.json")).unwrap();
    assert_eq!(shards.len(), 2);
    let checkpoint = Checkpoint::open(&shards).unwrap();
    assert_same("sharded", &checkpoint, &open("state-dict.safetensors"));

    let twice = [
        fixture("state-dict.zip.pt"),
        fixture("state-dict.legacy.pt"),
    ];
    let error = Checkpoint::open(&twice)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("legacy") && error.contains("is also in"),
        "{error}"
    );
}
