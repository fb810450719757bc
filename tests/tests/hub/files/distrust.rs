//! Servers that send wrong data.

use super::{REPO, TestHub, WEIGHTS, assert_refused, assert_whole, content, fetch, file};
use merv_tests::{Fault, FileKind, TOKEN};

#[test]
fn the_token_is_sent_only_to_the_hubs_own_host_name() {
    let bench = TestHub::new();
    let small = file("config.json");
    bench.server.add(REPO, "config.json", "{}", FileKind::Small);
    let to = format!(
        "{}/{REPO}/resolve/main/config.json",
        bench.server.other_name()
    );
    bench.server.fail([Fault::Redirect(to)]);
    fetch(&bench.with_token(TOKEN), &small).unwrap();
    let has_token: Vec<bool> = bench
        .server
        .seen()
        .iter()
        .map(|seen| seen.authorization.is_some())
        .collect();
    assert!(has_token[0], "the hub receives the token");
    assert!(
        !has_token[1],
        "another host name does not receive the token"
    );
}

#[test]
fn downloads_are_checked() {
    let cases: [(Fault, &[&str]); 3] = [
        (
            Fault::Damaged,
            &["is damaged", "sha256", "expected: ", "found: "],
        ),
        (Fault::Longer(3), &["600000 bytes", "600003 bytes"]),
        (Fault::OtherRange, &["starts at byte 1000", "1001"]),
    ];
    for (fault, words) in cases {
        let bench = TestHub::new();
        if matches!(fault, Fault::OtherRange) {
            bench.leave(&content()[..1000]);
        }
        bench.server.fail([fault]);
        let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
        assert_refused(error, words);
        assert_eq!(bench.hub().cached(&file(WEIGHTS)), None);
        assert!(!bench.blob().exists());
        assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
    }
}

#[test]
fn a_wrong_size_from_the_hub_is_noticed() {
    for stated in ["599999", "600001"] {
        let bench = TestHub::new();
        bench
            .server
            .fail([Fault::Header("X-Linked-Size", stated.to_owned())]);
        let hub = bench.hub();
        let error = fetch(&hub, &file(WEIGHTS)).unwrap_err();
        assert_refused(error, &[&format!("{stated} bytes"), "600000 bytes"]);
        assert!(!bench.blob().exists());
    }
}

#[test]
fn invalid_answers_are_refused() {
    let to = |location: &str| ("Location", location.to_owned());
    let cases: [((&'static str, String), &str); 7] = [
        (("X-Repo-Commit", "../../../evil".to_owned()), "commit"),
        (("X-Repo-Commit", "..".to_owned()), "commit"),
        (("X-Linked-Etag", "\"../evil\"".to_owned()), "ETag"),
        (("X-Linked-Etag", "\"/etc/evil\"".to_owned()), "ETag"),
        (("X-Linked-Etag", "\"\"".to_owned()), "ETag"),
        (("X-Linked-Size", "many".to_owned()), "size"),
        (to("file:///etc/passwd"), "redirect"),
    ];
    for ((name, value), word) in cases {
        let bench = TestHub::new();
        bench.server.fail([Fault::Header(name, value.clone())]);
        let is_redirect = name == "Location";
        let error = if is_redirect {
            // The description is accepted, because the location of the content is requested later.
            let remote = bench.hub().locate(&file(WEIGHTS)).unwrap();
            bench.server.fail([Fault::Header(name, value.clone())]);
            bench
                .hub()
                .download(&file(WEIGHTS), &remote, &mut |_, _| {})
                .unwrap_err()
        } else {
            fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err()
        };
        assert_refused(error, &["is not that of a hub", word]);
        let outside = bench.cache.path().join("evil");
        assert!(!outside.exists(), "{value} was followed");
    }
}

#[test]
fn endless_redirects_are_refused() {
    let bench = TestHub::new();
    let here = format!("/{REPO}/resolve/main/{WEIGHTS}");
    bench.server.fail(vec![Fault::Redirect(here); 20]);
    let error = bench.hub().locate(&file(WEIGHTS)).unwrap_err();
    assert_refused(error, &["redirects too many times"]);
    assert!(bench.server.seen().len() < 20);
}
