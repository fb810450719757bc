//! Judging in batches.

use super::Judged;
use merv_tests::{JudgeFault, artifacts, root};
use std::{
    fs,
    process::{Command, Stdio},
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
