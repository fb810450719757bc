//! Servers that send something else than they should.

use super::{Bench, REPO, WEIGHTS, assert_refused, assert_whole, content, fetch, file};
use merv_tests::{Fault, Kept, TOKEN};

#[test]
fn the_token_stays_with_the_name_it_is_meant_for() {
    let bench = Bench::new();
    let small = file("config.json");
    bench.server.add(REPO, "config.json", "{}", Kept::Small);
    let to = format!(
        "{}/{REPO}/resolve/main/config.json",
        bench.server.other_name()
    );
    bench.server.fail([Fault::Redirect(to)]);
    fetch(&bench.with_token(TOKEN), &small).unwrap();
    let told: Vec<bool> = bench
        .server
        .seen()
        .iter()
        .map(|seen| seen.authorization.is_some())
        .collect();
    assert!(told[0], "the hub is told the token");
    assert!(!told[1], "another name for it is not");
}

#[test]
fn what_arrives_is_checked() {
    let cases: [(Fault, &[&str]); 3] = [
        (
            Fault::Damaged,
            &["arrived damaged", "sha256", "expected: ", "found: "],
        ),
        (Fault::Longer(3), &["600000 bytes", "600003 bytes"]),
        (Fault::OtherRange, &["asked from byte 1000 on", "1001"]),
    ];
    for (fault, words) in cases {
        let bench = Bench::new();
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
fn a_size_that_the_hub_states_wrongly_is_noticed() {
    for stated in ["599999", "600001"] {
        let bench = Bench::new();
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
fn answers_that_are_not_the_hubs_are_refused() {
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
        let bench = Bench::new();
        bench.server.fail([Fault::Header(name, value.clone())]);
        let is_redirect = name == "Location";
        let error = if is_redirect {
            // What describes the file is believed; where its content is, is asked later.
            let remote = bench.hub().locate(&file(WEIGHTS)).unwrap();
            bench.server.fail([Fault::Header(name, value.clone())]);
            bench
                .hub()
                .download(&file(WEIGHTS), &remote, &mut |_, _| {})
                .unwrap_err()
        } else {
            fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err()
        };
        assert_refused(error, &["was not answered as the hub would", word]);
        let outside = bench.cache.path().join("evil");
        assert!(!outside.exists(), "{value} was followed");
    }
}

#[test]
fn redirects_end() {
    let bench = Bench::new();
    let here = format!("/{REPO}/resolve/main/{WEIGHTS}");
    bench.server.fail(vec![Fault::Redirect(here); 20]);
    let error = bench.hub().locate(&file(WEIGHTS)).unwrap_err();
    assert_refused(error, &["redirects without end"]);
    assert!(bench.server.seen().len() < 20);
}
