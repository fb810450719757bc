//! Judging in batches.

use super::Judged;
use merv_host::eval::judge::{
    DEFAULT_MODEL, Service, Verdicts,
    batch::{BatchOptions, judge},
    cases,
};
use merv_tests::{JudgeFault, Run, artifacts, root};
use serde_json::json;
use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

#[test]
fn batches_respect_the_limit_and_are_polled() {
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
    // Also without the local record, because the service lists the batch.
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
        assert_eq!(judged.server.batches(), [10], "the batch is sent once");
        fs::remove_file(judged.path("toy_gpt.jsonl")).unwrap();
    }
}

#[test]
fn unanswered_requests_of_a_batch_are_sent_again() {
    let judged = Judged::new(10);
    judged.server.expire_after(6);
    // The response about the new batch is lost. The batch is not created twice.
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
            "the batch `batch-0` ended with the status `failed`",
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
fn batches_of_other_evaluations_are_left_alone() {
    let judged = Judged::new(10);
    // More than the number of times that unanswered cases are sent.
    for other in 0..4 {
        let line = json!({
            "question_id": "1", "video_name": "v", "question": format!("question {other}?"),
            "answer": "dog", "pred": "dog",
        });
        let path = judged.path(&format!("other{other}_pred_merge.jsonl"));
        fs::write(&path, line.to_string() + "\n").unwrap();
        Run::new()
            .env("OPENAI_BASE_URL", judged.server.base_url())
            .env("OPENAI_API_KEY", "sk-right")
            .args(["eval", "judge", "--batch", "--poll", "0.02"])
            .arg(path)
            .finish()
            .succeeded();
    }
    let run = judged.run().args(["--batch", "--poll", "0.02"]);
    judged.check(&run.finish().succeeded().stdout);
    assert_eq!(judged.server.batches(), [1, 1, 1, 1, 10]);
}

#[test]
fn the_progress_is_the_sum_over_all_batches() {
    let judged = Judged::new(10);
    judged.server.finish_batches_after(1);
    let (cases, stem, _) = cases(&judged.path("toy_pred_merge.jsonl")).unwrap();
    let service = Service {
        base_url: judged.server.base_url(),
        key: None,
        timeout: Duration::from_secs(60),
        tries: 3,
        first_delay: Duration::from_millis(1),
        notices: Arc::new(|notice| panic!("{notice}")),
    };
    let options = BatchOptions {
        max_requests: 4,
        poll: Duration::from_millis(1),
        ..BatchOptions::default()
    };
    let mut verdicts = Verdicts::open(&stem, DEFAULT_MODEL).unwrap();
    let mut seen = Vec::new();
    let mut progress = |done, total| seen.push((done, total));
    judge(&service, options, &mut verdicts, &cases, &mut progress).unwrap();
    // Nothing has been sent; three batches of 4, 4 and 2 are sent, and complete.
    assert_eq!(seen, [(0, 0), (0, 10), (10, 10)]);
}

#[test]
fn the_wait_between_attempts_doubles() {
    let judged = Judged::new(1);
    // The upload is accepted, and the batch is refused six times.
    let refusals = (0..6).map(|_| JudgeFault::Status(500, ""));
    let accepted = [JudgeFault::Slow(Duration::ZERO)];
    judged.server.fail(accepted.into_iter().chain(refusals));
    let run = judged.run().args(["--batch", "--poll", "0.01"]);
    run.args(["--tries", "6"])
        .finish()
        .failed(1, &["/batches failed 6 times"]);
    // Before each wait a batch is refused, and after it the batches are listed.
    let times = judged.server.times();
    let waits = times[2..].chunks(2).map(|pair| pair[1] - pair[0]);
    let waits: Vec<_> = waits.collect();
    assert_eq!(waits.len(), 6);
    for (wait, least) in waits.iter().zip([10, 20, 40, 80, 160, 320]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
}
