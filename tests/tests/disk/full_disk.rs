//! A full disk, simulated by a limit on the size of files. The error names the file and says what to do, and the next run
//! gives the same result as an undisturbed one.

use super::commands::{all, all_files};
use merv_tests::{Benchmark, json_lines};
use serde_json::json;

/// Limits on the size of a file, in blocks of 512 bytes.
const LIMITS: [u32; 3] = [0, 1, 3];

#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    for command in all() {
        let expected = command.undisturbed();
        let mut failures = 0;
        for limit in LIMITS {
            let place = command.place(&format!("full-{limit}"));
            let run = command
                .run(&place)
                .after_shell(&format!("ulimit -f {limit}"));
            let finished = run.finish();
            if finished.code != Some(0) {
                failures += 1;
                assert_eq!(finished.code, Some(1), "{}: {finished}", command.name);
                let place = place.display().to_string();
                for word in ["cannot", "ulimit -f", &place] {
                    assert!(
                        finished.stderr.contains(word),
                        "{}: `{word}` is not in the message: {finished}",
                        command.name
                    );
                }
            }
            let is_partial =
                |path: &std::path::PathBuf| path.to_string_lossy().contains(".partial");
            assert!(
                !all_files(&place).iter().any(is_partial),
                "{}",
                command.name
            );
            command.again(&place).finish().succeeded();
            assert_eq!(
                command.outcome(&place),
                expected,
                "{}, {limit}",
                command.name
            );
        }
        assert!(failures > 0, "{}: no limit was reached", command.name);
    }
}

#[test]
fn an_answer_that_is_not_on_the_disk_is_not_given() {
    let mut toy = Benchmark::new();
    // The reference is in the line of a prediction, which then exceeds the limit. The settings do not.
    toy.add(
        json!({"video_name": "a", "question_id": "1", "question": "what?"}),
        json!({"answer": "long ".repeat(2000)}),
    );
    toy.write();
    let run = || {
        let run = toy.run("open-ended");
        run.args(["--max-new-tokens", "2"])
    };
    let full = run().after_shell("ulimit -f 16").finish();
    assert!(toy.result("toy_settings.json").exists(), "{full}");
    full.failed(1, &["toy_pred_1_0.jsonl", "cannot", "ulimit -f"]);
    run().finish().succeeded();
    assert_eq!(json_lines(&toy.result("toy_pred_merge.jsonl")).len(), 1);
}
