//! Which predictions are judged, and how the judge's replies are read.

use super::Judged;
use merv_host::eval::judge::{Verdicts, cases, local};
use merv_tests::{JudgeFault, json_lines, tiny_model};
use serde_json::{Value, json};
use std::fs;

#[test]
fn unusable_replies_are_counted_separately() {
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
    // Of the four that count, number 3 is correct.
    assert_eq!(report["accuracy"], 0.25);
    let lines = json_lines(&judged.path("toy_gpt.jsonl"));
    assert_eq!(lines[0]["reply"], "{'pred': 'maybe', 'score': 9}");
    assert_eq!(lines[1]["refused"], "as the test wants");
    let markdown = fs::read_to_string(judged.path("toy_gpt_report.md")).unwrap();
    assert!(
        markdown.contains("judge replies without a verdict (not counted): 2"),
        "{markdown}"
    );
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
        .failed(1, &["multiple-choice", "do not need a judge"]);
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
    // merv-tiny's context is too short for the request, as the file of verdicts records.
    let report: Value = serde_json::from_str(&run.succeeded().stdout).unwrap();
    assert_eq!(judged.server.times().len(), 0);
    let (count, unparsable) = (
        report["count"].as_u64().unwrap(),
        report["unparsable"].as_u64().unwrap(),
    );
    assert_eq!(count + unparsable, 3);
    assert_eq!(report["accuracy"].is_null(), count == 0, "{report}");
    let markdown = fs::read_to_string(judged.path("toy_gpt_report.md")).unwrap();
    let words = format!("judge replies without a verdict (not counted): {unparsable}");
    assert_eq!(markdown.contains(&words), unparsable > 0, "{markdown}");
    assert_eq!(
        json_lines(&judged.path("toy_gpt.jsonl"))[0]["judge"],
        "merv-tiny"
    );
}

#[test]
fn a_local_judge_reports_its_progress() {
    let judged = Judged::new(5);
    let (cases, stem, _) = cases(&judged.path("toy_pred_merge.jsonl")).unwrap();
    let mut verdicts = Verdicts::open(&stem, "lively").unwrap();
    let mut seen = Vec::new();
    let mut progress = |done, total| seen.push((done, total));
    local::judge(&tiny_model(), 2, &mut verdicts, &cases, &mut progress).unwrap();
    assert_eq!(seen, [(2, 5), (4, 5), (5, 5)]);
    assert!(verdicts.pending(&cases).is_empty());
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
    let expected = "Correct Answer: \"dog\" or \"a puppy\"\nPredicted Answer: puppy\n";
    assert!(asked[0].contains(expected), "{asked:?}");
}
