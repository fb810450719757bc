//! A service that is slow, fails or refuses.

use super::Judged;
use merv_tests::{JudgeFault, Run, artifacts, root};
use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[test]
fn failed_requests_are_repeated() {
    let judged = Judged::new(20);
    judged.server.fail([
        JudgeFault::TooMany(1),
        JudgeFault::Status(500, ""),
        JudgeFault::Cut,
        JudgeFault::Nonsense,
        JudgeFault::Slow(Duration::from_millis(300)),
        JudgeFault::Status(503, ""),
        JudgeFault::Reply("I think it is right."),
    ]);
    let started = Instant::now();
    let run = judged
        .run()
        .args(["--concurrency", "3"])
        .finish()
        .succeeded();
    assert!(
        started.elapsed() > Duration::from_secs(1),
        "the service requested a wait of one second"
    );
    judged.check(&run.stdout);
    let most = judged.server.most_at_once();
    assert!((2..=3).contains(&most), "{most} concurrent requests");
    // 20 requests, one more for each fault without an answer, and one for the unusable reply.
    assert_eq!(judged.server.times().len(), 26);
    let keys = judged.server.authorization();
    assert!(
        keys.iter()
            .all(|key| key.as_deref() == Some("Bearer sk-right"))
    );
    // Everything is judged, so the service is not needed any more.
    let again = judged
        .run()
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1")
        .finish()
        .succeeded();
    judged.check(&again.stdout);
}

#[test]
fn a_requested_wait_applies_to_all_requests() {
    let judged = Judged::new(12);
    judged.server.fail([JudgeFault::TooMany(1)]);
    judged
        .run()
        .args(["--concurrency", "2"])
        .finish()
        .succeeded();
    let times = judged.server.times();
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let long = gaps
        .iter()
        .filter(|gap| **gap > Duration::from_millis(700))
        .count();
    assert_eq!(long, 1, "{gaps:?}");
    let before = gaps
        .iter()
        .position(|gap| *gap > Duration::from_millis(700))
        .unwrap();
    assert!(
        before <= 3,
        "requests continued during the requested wait: {gaps:?}"
    );
}

#[test]
fn permanent_failures_stop_the_run_immediately() {
    for (status, code, words) in [
        (401, "invalid_api_key", ["access denied", "check the key"]),
        (
            404,
            "model_not_found",
            ["answered 404", "as the test wants"],
        ),
        (
            429,
            "insufficient_quota",
            ["answered 429", "as the test wants"],
        ),
        (
            400,
            "invalid_request_error",
            ["answered 400", "as the test wants"],
        ),
    ] {
        let judged = Judged::new(3);
        judged.server.fail([JudgeFault::Status(status, code)]);
        let run = judged.run().args(["--concurrency", "1"]).finish();
        run.failed(1, &words);
        assert_eq!(judged.server.times().len(), 1, "{status}");
    }
    let judged = Judged::new(3);
    judged.server.fail(vec![JudgeFault::Status(500, ""); 3]);
    let run = judged
        .run()
        .args(["--tries", "3", "--concurrency", "1"])
        .finish();
    run.failed(
        1,
        &["failed 3 times", "answered 500", "verdicts so far are kept"],
    );
    let late = Judged::new(1);
    late.server.fail([JudgeFault::Slow(Duration::from_secs(3))]);
    let run = late.run().args(["--tries", "1", "--timeout", "1"]).finish();
    run.failed(1, &["failed 1 times", "timeout"]);
    // The key may come from a file, which must not be empty.
    fs::write(judged.path("key"), "\n").unwrap();
    let run = judged
        .run()
        .arg("--key-file")
        .arg(judged.path("key"))
        .finish();
    run.failed(1, &["the file in --key-file is empty"]);
    fs::write(judged.path("key"), "sk-file\n").unwrap();
    judged
        .run()
        .arg("--key-file")
        .arg(judged.path("key"))
        .finish()
        .succeeded();
    assert_eq!(
        judged.server.authorization().last().unwrap().as_deref(),
        Some("Bearer sk-file")
    );
}

#[test]
fn a_kill_loses_no_verdict() {
    let judged = Judged::new(40);
    judged
        .server
        .fail(vec![JudgeFault::Slow(Duration::from_millis(20)); 40]);
    for _ in 0..3 {
        let seen = judged.server.chats();
        let mut child = Command::new(&artifacts().host)
            .current_dir(root())
            .args(judged.arguments())
            .args(["--concurrency", "2"])
            .env("OPENAI_BASE_URL", judged.server.base_url())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A fixed time could end before the first request, depending on the machine.
        let started = Instant::now();
        while judged.server.chats() < seen + 4 && started.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The server counts requests from before the kill when it has processed them.
    thread::sleep(Duration::from_millis(300));
    let kept = fs::read_to_string(judged.path("toy_gpt.jsonl"))
        .unwrap()
        .lines()
        .count();
    let before = judged.server.chats();
    let run = judged.run().finish().succeeded();
    judged.check(&run.stdout);
    assert_eq!(
        judged.server.chats() - before,
        40 - kept,
        "only the remaining questions are asked"
    );
}

#[test]
fn a_missing_key_is_reported_immediately() {
    let judged = Judged::new(2);
    for url in [None, Some("https://api.openai.com/v1")] {
        let run = Run::new().keeping(&judged.folder).args(judged.arguments());
        let run = match url {
            Some(url) => run.args(["--base-url", url]),
            None => run,
        };
        run.finish().failed(
            1,
            &["requires a key", "$OPENAI_API_KEY", "--key-file", "--local"],
        );
    }
    // A private service may not need one.
    let own = Run::new().keeping(&judged.folder).args(judged.arguments());
    let own = own.args(["--base-url", &judged.server.base_url()]);
    judged.check(&own.finish().succeeded().stdout);
}

#[test]
fn retries_are_reported_once() {
    let judged = Judged::new(20);
    let run = judged
        .run()
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        .args(["--tries", "3", "--concurrency", "8"])
        .finish();
    let retries = run
        .stderr
        .lines()
        .filter(|line| line.contains("retrying in"));
    let retries: Vec<_> = retries.map(str::to_owned).collect();
    assert_eq!(retries.len(), 2, "{run}");
    assert!(
        retries[0].contains("http://127.0.0.1:1/v1/chat/completions: "),
        "{run}"
    );
    assert!(
        retries[0].ends_with("(attempt 2 of 3)") && retries[1].ends_with("(attempt 3 of 3)"),
        "{run}"
    );
    run.failed(1, &["failed 3 times"]);
}

#[test]
fn the_wait_before_a_repeated_request_doubles() {
    let judged = Judged::new(1);
    let run = judged
        .run()
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        .args(["--tries", "7"])
        .finish();
    let waits = run
        .stderr
        .lines()
        .filter_map(|line| line.split_once("retrying in ")?.1.split_once(" s"))
        .map(|(wait, _)| wait);
    // From 0.01 s on, rounded in the notices.
    assert_eq!(
        waits.collect::<Vec<_>>(),
        ["0.0", "0.0", "0.0", "0.1", "0.2", "0.3"],
        "{run}"
    );
}
