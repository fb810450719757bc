//! Evaluations that are refused because of unusable videos or results of other settings.

use super::SHORT;
use merv_tests::{Benchmark, Tiny, artifacts, json_lines, small_clip};
use serde_json::{Value, json};
use std::fs;

#[test]
fn unusable_videos_are_reported_and_counted() {
    let mut toy = Benchmark::new();
    let videos = toy.path("eval_data/toy/videos");
    fs::write(videos.join("broken.mp4"), "this is no video").unwrap();
    for (id, video) in [
        ("1", "a"),
        ("2", "broken"),
        ("3", "gone"),
        ("4", "b"),
        ("5", "broken"),
    ] {
        toy.add(
            json!({"video_name": video, "question_id": id, "question": "what?"}),
            json!({"answer": "it"}),
        );
    }
    toy.write();
    // By default, every video must be usable.
    let stopped = toy.run("open-ended").args(SHORT).finish();
    stopped.failed(1, &["1 of 4 clips", "--max-bad-fraction", "gone"]);
    let run = toy
        .run("open-ended")
        .args(SHORT)
        .args(["--max-bad-fraction", "0.25"])
        .finish();
    run.failed(1, &["2 of 4 clips", "gone", "broken"]);
    let allowed = ["--max-bad-fraction", "0.5", "--json"];
    let run = toy
        .run("open-ended")
        .args(SHORT)
        .args(allowed)
        .finish()
        .succeeded();
    for words in ["`3` is skipped: gone", "`2` is skipped: broken"] {
        assert!(run.stderr.contains(words), "{run}");
    }
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&report["count"], &report["failed"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(report["failures"][0]["question_id"], "2");
    assert_eq!(report["failures"].as_array().unwrap().len(), 3);
    assert!(
        fs::read_to_string(toy.result("toy_report.md"))
            .unwrap()
            .contains("questions that could not be asked (not counted): 3")
    );
    // After a repair, only the other questions are asked.
    for file in ["broken.mp4", "gone.mp4"] {
        fs::copy(small_clip(), videos.join(file)).unwrap();
    }
    let run = toy
        .run("open-ended")
        .args(SHORT)
        .arg("--json")
        .finish()
        .succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&report["count"], &report["failed"], &report["asked"]),
        (&json!(5), &json!(0), &json!(3))
    );
    let ids: Vec<_> = json_lines(&toy.result("toy_pred_merge.jsonl"))
        .iter()
        .map(|line| line["question_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5"]);
    assert!(!toy.result("toy_failed.jsonl").exists());
}

#[test]
fn a_question_that_cannot_be_asked_is_reported_and_not_counted() {
    let mut toy = Benchmark::new();
    for (id, question) in [("1", "what?"), ("2", &"why ".repeat(600)), ("3", "who?")] {
        toy.add(
            json!({"video_name": "a", "question_id": id, "question": question}),
            json!({"answer": "it"}),
        );
    }
    toy.write();
    let run = toy.run("open-ended").args(SHORT).arg("--json");
    let run = run.finish().succeeded();
    assert!(run.stderr.contains("question `2` is skipped: "), "{run}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let counts = ["count", "asked", "failed"].map(|key| report[key].clone());
    assert_eq!(counts, [json!(2), json!(3), json!(1)]);
    let failure = &report["failures"][0];
    assert_eq!(
        (&failure["question_id"], &failure["video_name"]),
        (&json!("2"), &json!("a"))
    );
    assert!(
        failure["error"].as_str().unwrap().contains("512"),
        "{failure}"
    );
    assert_eq!(json_lines(&toy.result("toy_failed.jsonl")).len(), 1);
}

#[test]
fn results_of_other_settings_are_not_mixed() {
    let toy = Benchmark::open_ended(1);
    toy.run("open-ended").args(SHORT).finish().succeeded();
    let other = toy
        .run("open-ended")
        .args(["--max-new-tokens", "7"])
        .finish();
    other.failed(
        1,
        &[
            "other settings",
            "max_new_tokens: recorded 6, requested 7",
            "--out",
        ],
    );
    let rounded = toy.run("open-ended").args(SHORT);
    let rounded = rounded.args(["--precision", "bf16"]).finish();
    let words = [
        "other settings",
        "- encoder 0 dtype: recorded \"auto\", requested \"bf16\"",
        "- llm dtype: recorded \"auto\", requested \"bf16\"",
    ];
    rounded.failed(1, &words);
    // Results of another model with the same id are not mixed either.
    let tiny = Tiny::new();
    let library = artifacts().library("merv_llama2").canonicalize().unwrap();
    let library = library.display().to_string();
    tiny.replace(
        "registry.toml",
        "plugin = \"llama2\"",
        &format!("plugin = {{ path = \"{library}\" }}"),
    );
    let with_tiny = || toy.ask(&tiny.registry(), "open-ended", "out").args(SHORT);
    let run = with_tiny().finish();
    // The message uses the words of a registry, and lists only the differences.
    for debug in [
        "Some(",
        "None",
        "{ ",
        "KeepVideo",
        "ResizeNaive",
        "num_frames",
    ] {
        assert!(!run.stderr.contains(debug), "{debug}: {run}");
    }
    let plugin = format!("- llm plugin: recorded \"llama2\", requested \"{library}\"");
    let words = [
        "other settings",
        "- llm weights: recorded",
        "- mixer weights: recorded",
        &plugin,
    ];
    run.failed(1, &words);
    // The settings of a failed run do not restrict later runs.
    let broken = toy
        .ask(&tiny.registry(), "open-ended", "nothing")
        .args(SHORT);
    tiny.replace("registry.toml", "siglip\"", "no-such-plugin\"");
    broken.finish().failed(1, &["no-such-plugin"]);
    assert!(toy.path("nothing/toy_settings.json").exists());
    toy.run_into("open-ended", "nothing")
        .args(SHORT)
        .finish()
        .succeeded();
    toy.run("open-ended")
        .args(["--temperature", "-1"])
        .finish()
        .failed(2, &["temperature"]);
    toy.run("open-ended")
        .args(["--folder-fps", "0"])
        .finish()
        .failed(2, &["--folder-fps", "above 0"]);
    let named = merv_tests::Run::new()
        .args(["eval", "open-ended", "--benchmark", "../toy", "--data-dir"])
        .arg(toy.path("eval_data"))
        .arg("--out")
        .arg(toy.path("out"));
    named
        .finish()
        .failed(2, &["`../toy` is not the name of a benchmark"]);
    let chunk = |more: [&str; 4]| toy.run("open-ended").args(more).finish();
    chunk(["--num-chunks", "2", "--chunk-idx", "2"]).failed(2, &["--chunk-idx 2"]);
    chunk(["--num-chunks", "400", "--chunk-idx", "1"])
        .failed(1, &["--num-chunks 400: the benchmark has 3 questions"]);
    // Two processes do not work on one chunk at the same time.
    fs::create_dir(toy.path("busy")).unwrap();
    let lock = toy.path("busy/.toy_pred_2_0.jsonl.lock");
    fs::write(&lock, "process 7 (eval)").unwrap();
    let held = fs::File::options().append(true).open(&lock).unwrap();
    held.lock().unwrap();
    let second = toy
        .run_into("open-ended", "busy")
        .args(SHORT)
        .args(["--num-chunks", "2"])
        .finish();
    second.failed(1, &["toy_pred_2_0.jsonl", "is in use by process 7 (eval)"]);
}

#[test]
fn recorded_settings_have_a_version() {
    let toy = Benchmark::open_ended(1);
    toy.run("open-ended").args(SHORT).finish().succeeded();
    let path = toy.result("toy_settings.json");
    let recorded = fs::read_to_string(&path).unwrap();
    assert!(recorded.contains("\"version\": 1"), "{recorded}");
    // Without its checksum, a file may be edited.
    let mut settings: Value = serde_json::from_str(&recorded).unwrap();
    settings.as_object_mut().unwrap().remove("crc32");
    let mut record = |version: Option<u64>| {
        match version {
            Some(version) => settings["version"] = version.into(),
            None => drop(settings.as_object_mut().unwrap().remove("version")),
        }
        fs::write(&path, settings.to_string()).unwrap();
        toy.run("open-ended").args(SHORT).finish()
    };
    record(Some(2)).failed(
        1,
        &["toy_settings.json", "version 2", "expected: version 1"],
    );
    // Earlier programs recorded none.
    record(None).succeeded();
}
