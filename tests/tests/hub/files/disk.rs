//! A cache that cannot be written to.

use super::{REPO, TestHub, WEIGHTS, assert_refused, fetch, file};
use merv_host::hub::HubError;
use merv_tests::FileKind;
use std::{fs, io};

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported() {
    let bench = TestHub::new();
    bench.leave(b"");
    fs::remove_file(bench.incomplete()).unwrap();
    std::os::unix::fs::symlink("/dev/full", bench.incomplete()).unwrap();
    let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
    assert!(
        matches!(&error, HubError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    );
    assert_refused(error, &[&bench.etag, "free space", "HF_HOME"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_reported() {
    let bench = TestHub::new();
    fs::write(bench.folder(), "a file where a folder belongs").unwrap();
    let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
    assert_refused(
        error,
        &["models--owner--model", "cannot be written", "HF_HOME"],
    );
}

#[test]
fn a_file_name_that_is_too_long_is_reported() {
    let bench = TestHub::new();
    let long = "a".repeat(300);
    bench.server.add(REPO, &long, "{}", FileKind::Small);
    let error = fetch(&bench.hub(), &file(&long)).unwrap_err();
    assert_refused(error, &["longer than this system allows", "shorter"]);
}
