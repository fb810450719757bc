//! Complete and interrupted downloads into the cache.

use super::{REPO, TestHub, WEIGHTS, assert_refused, assert_whole, content, fetch, file};
use merv_host::hub::HubFile;
use merv_tests::{COMMIT, Fault, FileKind, HubRequest, TOKEN, sha256};
use std::{fs, path::Path, sync::Barrier, thread, time::Duration};

#[test]
fn a_large_file_is_downloaded_into_the_common_cache_layout() {
    let bench = TestHub::new();
    let hub = bench.with_token(TOKEN);
    let weights = file(WEIGHTS);
    assert_eq!(hub.cached(&weights), None);
    let remote = hub.locate(&weights).unwrap();
    assert_eq!(remote.size(), 600_000);
    let mut progress = Vec::new();
    let path = hub.download(&weights, &remote, &mut |done, total| {
        progress.push((done, total))
    });
    let path = path.unwrap();
    assert_whole(&path);
    assert_eq!(
        path,
        bench.folder().join("snapshots").join(COMMIT).join(WEIGHTS)
    );
    assert_eq!(
        fs::read_link(&path).unwrap(),
        Path::new("../../blobs").join(&bench.etag)
    );
    assert_eq!(
        fs::read_to_string(bench.folder().join("refs/main")).unwrap(),
        COMMIT
    );
    assert!(!bench.incomplete().exists());
    assert_eq!(progress.first(), Some(&(0, 600_000)));
    assert_eq!(progress.last(), Some(&(600_000, 600_000)));
    assert!(progress.is_sorted());

    // Only the hub received the token.
    let seen = bench.server.seen();
    let (storage, hub_itself): (Vec<&HubRequest>, Vec<&HubRequest>) =
        seen.iter().partition(|seen| seen.storage);
    assert!(!storage.is_empty() && !hub_itself.is_empty());
    for seen in storage {
        assert_eq!(seen.authorization, None, "the storage received the token");
    }
    for seen in hub_itself {
        assert_eq!(seen.authorization.as_deref(), Some("Bearer hf_right"));
    }

    // Afterwards no requests are made.
    assert_eq!(hub.cached(&weights), Some(path));
    assert_eq!(bench.server.seen(), []);
    let by_commit = HubFile {
        revision: Some(COMMIT.into()),
        ..weights.clone()
    };
    assert!(hub.cached(&by_commit).is_some());
    let other = HubFile {
        revision: Some("other".into()),
        ..weights
    };
    assert_eq!(hub.cached(&other), None);
}

#[test]
fn small_files_are_stored_by_folder_and_revision() {
    let bench = TestHub::new();
    bench.server.add(
        REPO,
        "sub folder/config.json",
        "{\"a\": 1}",
        FileKind::Small,
    );
    let config = HubFile {
        revision: Some("refs/pr/1".into()),
        ..file("sub folder/config.json")
    };
    let hub = bench.hub();
    let path = fetch(&hub, &config).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\": 1}");
    assert!(fs::read_link(&path).unwrap().starts_with("../../../blobs"));
    assert_eq!(
        fs::read_to_string(bench.folder().join("refs/refs/pr/1")).unwrap(),
        COMMIT
    );
    assert_eq!(hub.cached(&config), Some(path.clone()));

    // If the content of a link was removed, it is downloaded and linked again.
    fs::remove_file(path.canonicalize().unwrap()).unwrap();
    assert_eq!(hub.cached(&config), None);
    assert_eq!(fetch(&hub, &config).unwrap(), path);
    assert_eq!(hub.cached(&config), Some(path));
}

#[test]
fn an_empty_file_is_downloaded() {
    let bench = TestHub::new();
    bench.server.add(REPO, "empty", "", FileKind::Small);
    let path = fetch(&bench.hub(), &file("empty")).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"");
}

#[test]
fn a_download_resumes_after_a_lost_connection() {
    let bench = TestHub::new();
    bench
        .server
        .fail([Fault::Cut(200_000), Fault::Cut(100_000)]);
    assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
    let ranges = bench.ranges();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=200000-"));
    assert_eq!(ranges[2].as_deref(), Some("bytes=300000-"));
}

#[test]
fn the_next_run_resumes_a_failed_download() {
    let bench = TestHub::new();
    bench.server.fail([Fault::Cut(5000)]);
    bench.server.fail(vec![Fault::Cut(0); 5]);
    let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
    assert_refused(
        error,
        &[
            "hf://owner/model/model.safetensors",
            "600000 bytes",
            "5000",
            "do: run",
        ],
    );
    assert_eq!(fs::metadata(bench.incomplete()).unwrap().len(), 5000);
    assert!(!bench.blob().exists());
    bench.ranges();
    assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
    assert_eq!(bench.ranges(), [Some("bytes=5000-".to_owned())]);
}

#[test]
fn a_partial_file_of_another_run_is_used_if_it_is_valid() {
    let whole = content();
    let too_long = [whole.as_slice(), b"more"].concat();
    let damaged: Vec<u8> = whole.iter().map(|byte| byte ^ 1).collect();
    /// A name, the partial file, and the ranges that are requested.
    type Case<'a> = (&'a str, &'a [u8], &'a [Option<&'a str>]);
    let from_0: &[Option<&str>] = &[None];
    let cases: [Case<'_>; 6] = [
        ("a valid part", &whole[..1000], &[Some("bytes=1000-")]),
        ("everything", &whole, &[]),
        ("too much", &too_long, from_0),
        (
            "an invalid part",
            &damaged[..1000],
            &[Some("bytes=1000-"), None],
        ),
        ("everything, damaged", &damaged, from_0),
        ("nothing", b"", from_0),
    ];
    for (what, left, expected) in cases {
        let bench = TestHub::new();
        bench.leave(left);
        assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
        let expected: Vec<_> = expected
            .iter()
            .map(|range| range.map(str::to_owned))
            .collect();
        assert_eq!(bench.ranges(), expected, "{what}");
    }
}

#[test]
fn a_server_without_range_support_sends_everything_again() {
    let bench = TestHub::new();
    bench.leave(&content()[..1000]);
    bench.server.fail([Fault::WholeFile]);
    assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
}

#[test]
fn small_files_are_not_resumed_because_they_have_no_digest() {
    let bench = TestHub::new();
    let etag = bench
        .server
        .add(REPO, "config.json", "{\"right\": true}", FileKind::Small);
    bench.leave(b"");
    let left = bench
        .folder()
        .join("blobs")
        .join(format!("{etag}.incomplete"));
    fs::write(left, "{\"wr").unwrap();
    let path = fetch(&bench.hub(), &file("config.json")).unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "{\"right\": true}");
}

#[test]
fn concurrent_downloads_of_a_file_share_one() {
    const MANY: usize = 6;
    let bench = TestHub::new();
    bench.server.fail([Fault::Slow(Duration::from_millis(300))]);
    let barrier = Barrier::new(MANY);
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                let hub = bench.hub();
                barrier.wait();
                assert_whole(&fetch(&hub, &file(WEIGHTS)).unwrap());
            });
        }
    });
    assert_eq!(bench.ranges(), [None]);
    assert_eq!(sha256(&fs::read(bench.blob()).unwrap()), bench.etag);
}
