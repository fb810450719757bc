//! The judge against a local service that misbehaves.

use merv_tests::{JudgeFault, JudgeServer, Run, artifacts, json_lines, root};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Predictions of which every third is right, and the service that judges them.
struct Judged {
    folder: Arc<TempDir>,
    server: JudgeServer,
    count: usize,
}

impl Judged {
    fn new(count: usize) -> Self {
        let judged = Self {
            folder: Arc::new(TempDir::new().unwrap()),
            server: JudgeServer::new(),
            count,
        };
        let lines = (0..count).map(|i| {
            let pred = if i % 3 == 0 { "dog" } else { "cat" };
            let line = json!({
                "question_id": i.to_string(), "video_name": format!("v{}", i / 2),
                "question": "what is it?", "answer": "dog", "pred": pred,
            });
            line.to_string() + "\n"
        });
        fs::write(
            judged.path("toy_pred_merge.jsonl"),
            lines.collect::<String>(),
        )
        .unwrap();
        judged
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn arguments(&self) -> Vec<String> {
        let predictions = self.path("toy_pred_merge.jsonl").display().to_string();
        let fixed = ["eval", "judge", "--json", "--retry-delay", "0.01"].map(str::to_owned);
        fixed.into_iter().chain([predictions]).collect()
    }

    fn run(&self) -> Run {
        Run::new()
            .keeping(&self.folder)
            .env("OPENAI_BASE_URL", self.server.base_url())
            .env("OPENAI_API_KEY", "sk-right")
            .args(self.arguments())
    }

    /// Checks that everything was judged, and rightly; returns the report.
    #[track_caller]
    fn check(&self, stdout: &str) -> Value {
        let report: Value = serde_json::from_str(stdout).unwrap();
        let right = self.count.div_ceil(3);
        let accuracy = right as f64 / self.count as f64;
        let score = (5 * right + (self.count - right)) as f64 / self.count as f64;
        let near =
            |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
        assert!(near(&report["accuracy"], accuracy), "{report}");
        assert!(near(&report["measures"][1]["value"], score), "{report}");
        assert_eq!(
            (&report["count"], &report["unparsable"]),
            (&json!(self.count), &json!(0))
        );
        let ids: Vec<_> = json_lines(&self.path("toy_gpt.jsonl"))
            .iter()
            .map(|line| line["question_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids.len(), self.count, "a verdict each");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), self.count);
        let verdicts = fs::read_to_string(self.path("toy_gpt.json")).unwrap();
        let verdicts: Value = serde_json::from_str(&verdicts).unwrap();
        assert_eq!(verdicts["0"][0], json!({"pred": "yes", "score": 5}));
        assert_eq!(verdicts["1"][0], json!({"pred": "no", "score": 1}));
        assert_eq!(verdicts["1"][1]["pred"], "cat");
        report
    }
}

#[test]
fn a_service_that_stumbles_is_asked_again() {
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
        "the service asked to wait a second"
    );
    judged.check(&run.stdout);
    let most = judged.server.most_at_once();
    assert!((2..=3).contains(&most), "{most} at once");
    // 20, one for each fault that gave no answer, and one for the reply that said nothing.
    assert_eq!(judged.server.times().len(), 26);
    let keys = judged.server.authorization();
    assert!(
        keys.iter()
            .all(|key| key.as_deref() == Some("Bearer sk-right"))
    );
    // All is judged: nothing is asked again, not even with a service that is gone.
    let again = judged
        .run()
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1")
        .finish()
        .succeeded();
    judged.check(&again.stdout);
}

#[test]
fn when_told_to_wait_all_wait() {
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
        "requests went on while the service wanted none: {gaps:?}"
    );
}

#[test]
fn replies_that_say_nothing_are_counted_apart() {
    let judged = Judged::new(6);
    let nothing = JudgeFault::Reply("{'pred': 'maybe', 'score': 9}");
    judged
        .server
        .fail([nothing.clone(), nothing.clone(), nothing]);
    judged
        .server
        .fail([JudgeFault::Status(400, "content_filter")]);
    let run = judged
        .run()
        .args(["--concurrency", "1"])
        .finish()
        .succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&report["count"], &report["unparsable"]),
        (&json!(4), &json!(2))
    );
    // Of the four that count, number 3 is right.
    assert_eq!(report["accuracy"], 0.25);
    let lines = json_lines(&judged.path("toy_gpt.jsonl"));
    assert_eq!(lines[0]["reply"], "{'pred': 'maybe', 'score': 9}");
    assert_eq!(lines[1]["refused"], "as the test wants");
    let markdown = fs::read_to_string(judged.path("toy_gpt_report.md")).unwrap();
    assert!(
        markdown.contains("replies of the judge that say nothing (not counted): 2"),
        "{markdown}"
    );
}

#[test]
fn what_waiting_does_not_mend_stops_at_once() {
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
        &["failed 3 times", "answered 500", "what is judged is kept"],
    );
    let late = Judged::new(1);
    late.server.fail([JudgeFault::Slow(Duration::from_secs(3))]);
    let run = late.run().args(["--tries", "1", "--timeout", "1"]).finish();
    run.failed(1, &["failed 1 times", "timeout"]);
    // A key may come from a file, and must not be empty there.
    fs::write(judged.path("key"), "\n").unwrap();
    let run = judged
        .run()
        .arg("--key-file")
        .arg(judged.path("key"))
        .finish();
    run.failed(1, &["the file of --key-file is empty"]);
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
        // As many milliseconds on a fast machine as on a slow one would be a kill before anything was asked.
        let started = Instant::now();
        while judged.server.chats() < seen + 4 && started.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // What was asked before the kill is counted when the server is done with it.
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
        "only the rest is asked"
    );
}

#[test]
fn batches_keep_their_limits_and_come_late() {
    let judged = Judged::new(10);
    judged.server.finish_batches_after(3);
    let run = judged
        .run()
        .args(["--batch", "--poll", "0.02", "--batch-requests", "4"])
        .finish()
        .succeeded();
    judged.check(&run.stdout);
    assert_eq!(judged.server.batches(), [4, 4, 2]);
    assert_eq!(judged.server.chats(), 0);
}

#[test]
fn a_batch_is_found_again_after_a_kill() {
    let judged = Judged::new(10);
    judged.server.finish_batches_after(1000);
    let mut child = Command::new(&artifacts().host)
        .current_dir(root())
        .args(judged.arguments())
        .args(["--batch", "--poll", "0.05"])
        .env("OPENAI_BASE_URL", judged.server.base_url())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while judged.server.times().len() < 5 {
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Even where the note was lost: the service knows the batch.
    for lost in [false, true] {
        if lost {
            fs::remove_file(judged.path("toy_gpt_batches.jsonl")).unwrap();
        }
        let run = judged
            .run()
            .args(["--batch", "--poll", "0.002"])
            .finish()
            .succeeded();
        judged.check(&run.stdout);
        assert_eq!(judged.server.batches(), [10], "it is not sent twice");
        fs::remove_file(judged.path("toy_gpt.jsonl")).unwrap();
    }
}

#[test]
fn what_a_batch_leaves_open_is_sent_again() {
    let judged = Judged::new(10);
    judged.server.expire_after(6);
    // The answer about the new batch is lost on the way: it is not made twice.
    judged.server.fail([
        JudgeFault::Nonsense,
        JudgeFault::Status(500, ""),
        JudgeFault::Slow(Duration::ZERO),
        JudgeFault::Cut,
    ]);
    let run = judged
        .run()
        .args(["--batch", "--poll", "0.02"])
        .finish()
        .succeeded();
    judged.check(&run.stdout);
    assert_eq!(judged.server.batches(), [10, 4]);
    let failing = Judged::new(3);
    failing.server.fail_batch();
    let run = failing.run().args(["--batch", "--poll", "0.02"]).finish();
    run.failed(
        1,
        &[
            "the batch `batch-0` ended as `failed`",
            "the input file is not valid",
        ],
    );
    let run = failing
        .run()
        .args(["--batch", "--poll", "0.02"])
        .finish()
        .succeeded();
    failing.check(&run.stdout);
}

#[test]
fn multiple_choice_is_not_judged() {
    let judged = Judged::new(1);
    let line = json!({
        "question_id": "1", "video_name": "v", "question": "which?", "options": ["x", "y"],
        "answer": "x", "answer_char": "A", "pred": "A",
    });
    fs::write(judged.path("toy_pred_merge.jsonl"), format!("{line}\n")).unwrap();
    fs::write(judged.path("toy_gpt.json"), "by letter").unwrap();
    judged
        .run()
        .finish()
        .failed(1, &["multiple-choice", "need no judge"]);
    let kept = fs::read_to_string(judged.path("toy_gpt.json")).unwrap();
    assert_eq!((kept.as_str(), judged.server.chats()), ("by letter", 0));
    fs::remove_file(judged.path("toy_pred_merge.jsonl")).unwrap();
    judged.run().finish().failed(1, &["cannot be read"]);
}

#[test]
fn a_local_judge_needs_no_service() {
    let judged = Judged::new(3);
    let run = judged
        .run()
        .args(["--local", "--registry", "merv-tiny"])
        .finish();
    // merv-tiny's context is too short for the request, which the verdict file says.
    let report: Value = serde_json::from_str(&run.succeeded().stdout).unwrap();
    assert_eq!(judged.server.times().len(), 0);
    let (count, unparsable) = (
        report["count"].as_u64().unwrap(),
        report["unparsable"].as_u64().unwrap(),
    );
    assert_eq!(count + unparsable, 3);
    assert_eq!(report["accuracy"].is_null(), count == 0, "{report}");
    let markdown = fs::read_to_string(judged.path("toy_gpt_report.md")).unwrap();
    let words = format!("replies of the judge that say nothing (not counted): {unparsable}");
    assert_eq!(markdown.contains(&words), unparsable > 0, "{markdown}");
    assert_eq!(
        json_lines(&judged.path("toy_gpt.jsonl"))[0]["judge"],
        "merv-tiny"
    );
}

#[test]
fn without_a_key_nothing_is_waited_for() {
    let judged = Judged::new(2);
    for url in [None, Some("https://api.openai.com/v1")] {
        let run = Run::new().keeping(&judged.folder).args(judged.arguments());
        let run = match url {
            Some(url) => run.args(["--base-url", url]),
            None => run,
        };
        run.finish().failed(
            1,
            &["wants a key", "$OPENAI_API_KEY", "--key-file", "--local"],
        );
    }
    // A service of one's own may want none.
    let own = Run::new().keeping(&judged.folder).args(judged.arguments());
    let own = own.args(["--base-url", &judged.server.base_url()]);
    judged.check(&own.finish().succeeded().stdout);
}

#[test]
fn that_a_request_is_tried_again_is_said_once() {
    let judged = Judged::new(20);
    let run = judged
        .run()
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        .args(["--tries", "3", "--concurrency", "8"])
        .finish();
    let told = run
        .stderr
        .lines()
        .filter(|line| line.contains("trying again in"));
    let told: Vec<_> = told.map(str::to_owned).collect();
    assert_eq!(told.len(), 2, "{run}");
    assert!(
        told[0].contains("http://127.0.0.1:1/v1/chat/completions: "),
        "{run}"
    );
    assert!(
        told[0].ends_with("(2 of 3)") && told[1].ends_with("(3 of 3)"),
        "{run}"
    );
    run.failed(1, &["failed 3 times"]);
}

#[test]
fn the_judge_is_shown_all_references() {
    let judged = Judged::new(1);
    let line = json!({
        "question_id": "0", "video_name": "v", "question": "what is it?", "answer": ["dog", "a puppy"],
        "pred": "puppy",
    });
    fs::write(
        judged.path("toy_pred_merge.jsonl"),
        format!("\u{feff}{line}\r\n"),
    )
    .unwrap();
    judged.run().finish().succeeded();
    let asked = judged.server.asked();
    let told = "Correct Answer: \"dog\" or \"a puppy\"\nPredicted Answer: puppy\n";
    assert!(asked[0].contains(told), "{asked:?}");
}
