//! The files of a benchmark: accepted forms, and mistakes that are refused.

use merv_tests::{Benchmark, assert_cases, json_lines};
use serde_json::{Value, json};
use std::fs;

/// Two tokens are enough here.
const SHORT: [&str; 2] = ["--max-new-tokens", "2"];

fn open(id: &str) -> Value {
    json!({"video_name": "a", "question_id": id, "question": "what?"})
}

fn mcq(id: &str) -> Value {
    json!({"video_name": "a", "question_id": id, "question": "?", "options": ["x", "y"], "num_option": 2})
}

/// `fields` with the fields of `other` set; null removes a field.
fn with(mut fields: Value, other: &Value) -> Value {
    for (key, value) in other.as_object().unwrap() {
        let fields = fields.as_object_mut().unwrap();
        match value {
            Value::Null => drop(fields.remove(key)),
            value => drop(fields.insert(key.clone(), value.clone())),
        }
    }
    fields
}

#[test]
fn a_mistake_is_reported_with_its_file() {
    let mut toy = Benchmark::new();
    toy.add(mcq("1"), json!({"answer_id": 0}));
    toy.add(mcq("2"), json!({"answer_id": 7}));
    toy.add(
        with(mcq("3"), &json!({"num_option": 9})),
        json!({"answer_id": 0}),
    );
    toy.add(mcq("4"), json!({}));
    toy.write();
    let words = [
        "3 items are wrong",
        "test_a.json, item 1: question `2`: `answer_id` is 7",
        "test_q.json, item 2: question `3`: `num_option` is 9",
        "test_a.json, item 3: question `4`: `answer_id` is missing",
    ];
    toy.run("mcq").finish().failed(1, &words);
}

#[test]
fn misspelt_keys_and_empty_values_are_refused() {
    let fine = json!({"answer": "x"});
    let cases = [
        (
            json!({"video_name": null, "video_names": "a"}),
            &fine,
            "unknown key `video_names`; write `video_name`",
        ),
        (
            json!({"video_name": null, "video": "a"}),
            &fine,
            "`video_name` is missing; did you mean `video`?",
        ),
        (
            json!({"Time": [0, 1]}),
            &fine,
            "unknown key `Time`; write `time`",
        ),
        (
            json!({"endFrame": 3}),
            &fine,
            "unknown key `endFrame`; write `end_frame`",
        ),
        (json!({"video_name": ""}), &fine, "`video_name` is empty"),
        (
            json!({"crc32": "0"}),
            &fine,
            "the key `crc32` is reserved for the checksum of a prediction",
        ),
        (
            json!({"video_name": ["a", "b"]}),
            &fine,
            "`video_name` is `[\"a\",\"b\"]`; expected a string",
        ),
        (json!({"question": " "}), &fine, "`question` is empty"),
        (
            json!({"question": "<video> and <video>?"}),
            &fine,
            "`question` contains 2 marks",
        ),
        (
            json!({}),
            &json!({"answers": "x"}),
            "unknown key `answers`; write `answer`",
        ),
        (
            json!({}),
            &json!({"answer": []}),
            "`answer` is an empty list",
        ),
        (
            json!({}),
            &json!({"answer": [{}]}),
            "`answer` contains `{}`; expected strings",
        ),
        (
            json!({}),
            &json!({"answer": {"a": 1}}),
            "`answer` is `{\"a\":1}`; expected a string",
        ),
    ];
    assert_cases(cases.map(|(question, answer, word)| {
        let mut toy = Benchmark::new();
        toy.add(with(open("1"), &question), answer.clone());
        toy.write();
        let run = toy.run("open-ended").args(SHORT).finish();
        (
            format!("{question} {answer}"),
            run.check_failed(1, &["an item is wrong", word]),
        )
    }));
    let mut toy = Benchmark::new();
    let question = with(mcq("1"), &json!({"num_option": null, "num_options": 2}));
    toy.add(question, json!({"answer_id": 0}));
    toy.write();
    let run = toy.run("mcq").finish();
    run.failed(1, &["unknown key `num_options`; write `num_option`"]);
}

#[test]
fn a_question_has_two_to_twenty_six_options() {
    let asked = |count: usize| {
        let mut toy = Benchmark::new();
        let options: Vec<String> = (0..count).map(|n| format!("option {n}")).collect();
        let question = with(mcq("1"), &json!({"options": options, "num_option": count}));
        toy.add(question, json!({"answer_id": 0}));
        toy.write();
        toy.run("mcq").args(SHORT).finish()
    };
    asked(2).succeeded();
    asked(26).succeeded();
    for count in [0, 1, 27] {
        asked(count).failed(
            1,
            &[&format!(
                "there are {count} options; expected 2 to 26 options"
            )],
        );
    }
}

#[test]
fn lists_of_videos_and_answers_are_accepted() {
    let mut toy = Benchmark::new();
    let listed = json!({"video_name": ["a"]});
    toy.add(with(open("1"), &listed), json!({"answer": "no such words"}));
    toy.write();
    toy.run("open-ended").args(SHORT).finish().succeeded();
    let reply = json_lines(&toy.result("toy_pred_merge.jsonl"))[0]["pred"].clone();
    assert!(!reply.as_str().unwrap().trim().is_empty(), "{reply}");

    let mut toy = Benchmark::new();
    toy.add(open("1"), json!({"answer": ["no such words", reply]}));
    toy.write();
    let run = toy
        .run("open-ended")
        .args(SHORT)
        .arg("--json")
        .finish()
        .succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    for index in [0, 1] {
        assert_eq!(report["measures"][index]["value"], 1.0, "{run}");
    }
    // Both answers are stored.
    let lines = json_lines(&toy.result("toy_pred_merge.jsonl"));
    assert_eq!(lines[0]["answer"].as_array().unwrap().len(), 2);
}

#[test]
fn seconds_are_computed_as_by_the_original_and_recorded() {
    let mut toy = Benchmark::new();
    let video = toy.path("eval_data/toy/videos/vfr.mp4");
    fs::copy(merv_tests::fixture("video/vfr.mp4"), &video).unwrap();
    let window = json!({"video_name": "vfr", "time": [0.5, 1.0]});
    toy.add(with(open("1"), &window), json!({"answer": "x"}));
    toy.write();
    toy.run("open-ended").args(SHORT).finish().succeeded();
    let line = json_lines(&toy.result("toy_pred_merge.jsonl")).remove(0);
    let weights = |seconds| {
        let mut options = merv_host::GenerateOptions::default();
        options.limits.max_new_tokens = 2;
        options.video.start = Some(0.5);
        options.video.end = Some(1.0);
        options.video.seconds = seconds;
        let reply = merv_tests::tiny_model()
            .generate(&video, "what?", &options)
            .unwrap();
        let weights = reply.mixer_weights.iter().map(|(_, weight)| *weight);
        weights.collect::<Vec<f32>>()
    };
    let mixed = line["mixer_value"].as_array().unwrap().iter();
    let mixed: Vec<f32> = mixed
        .map(|weight| weight.as_f64().unwrap() as f32)
        .collect();
    assert_eq!(mixed, weights(merv_host::video::Seconds::AverageRate));
    let shown = weights(merv_host::video::Seconds::Presentation);
    assert_ne!(mixed, shown, "the clip does not distinguish the two");
    let settings = fs::read_to_string(toy.result("toy_settings.json")).unwrap();
    let settings: Value = serde_json::from_str(&settings).unwrap();
    assert_eq!(settings["seconds"], "average rate");
}

#[test]
fn a_byte_order_mark_is_accepted() {
    let toy = Benchmark::open_ended(1);
    toy.run("open-ended").args(SHORT).finish().succeeded();
    let expected = fs::read(toy.result("toy_pred_merge.jsonl")).unwrap();
    for file in ["test_q.json", "test_a.json"] {
        let path = toy.path("eval_data/toy").join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("\u{feff}{text}\r\n")).unwrap();
    }
    let run = toy.run_into("open-ended", "marked").args(SHORT);
    run.finish().succeeded();
    let found = fs::read(toy.path("marked/toy_pred_merge.jsonl")).unwrap();
    assert_eq!(found, expected);
    // It is also accepted in results that an editor saved.
    let marked = toy.path("marked/toy_pred_merge.jsonl");
    let text = String::from_utf8(expected).unwrap();
    fs::write(&marked, format!("\u{feff}{text}")).unwrap();
    let compare = merv_tests::Run::new()
        .args(["eval", "compare"])
        .arg(toy.result("toy_pred_merge.jsonl"))
        .arg(&marked);
    compare.finish().succeeded();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&marked, &wide).unwrap();
    let compare = merv_tests::Run::new()
        .args(["eval", "compare"])
        .arg(toy.result("toy_pred_merge.jsonl"))
        .arg(&marked);
    compare
        .finish()
        .failed(1, &["toy_pred_merge.jsonl", "UTF-16"]);
    fs::write(toy.path("eval_data/toy/test_q.json"), wide).unwrap();
    let run = toy.run_into("open-ended", "wide").finish();
    run.failed(1, &["test_q.json", "UTF-16", "UTF-8"]);
}

#[test]
fn long_values_are_shortened_in_messages() {
    let long = "ä".repeat(1 << 20);
    let fine = json!({"answer": "x"});
    let cases = [
        (json!({"video_name": {"a": long}}), &fine),
        (json!({"time": [long]}), &fine),
        (json!({"end_frame": long}), &fine),
        (json!({"question_id": long, "question": ""}), &fine),
        (json!({"question_id": long, "video_name": "gone"}), &fine),
        (json!({}), &json!({"answer": [[long]]})),
    ];
    assert_cases(
        cases
            .into_iter()
            .enumerate()
            .map(|(case, (question, answer))| {
                let mut toy = Benchmark::new();
                toy.add(with(open("1"), &question), answer.clone());
                toy.write();
                let run = toy.run("open-ended").args(SHORT).finish();
                let length = run.stderr.chars().count();
                let result = match (run.code, length) {
                    (Some(1), 0..10_000) => Ok(()),
                    (code, _) => Err(format!("exit {code:?}, {length} characters")),
                };
                (case.to_string(), result)
            }),
    );
}

#[test]
fn mistakes_in_a_benchmark_are_reported_together() {
    let mut toy = Benchmark::new();
    let open = |id: &str| json!({"video_name": "a", "question_id": id, "question": "what?"});
    toy.add(open("1"), json!({"answer": "x"}));
    toy.add(
        json!({"question_id": "2", "question": "?"}),
        json!({"answer": "x"}),
    );
    toy.write();
    let path = toy.path("eval_data/toy/test_q.json");
    let text = fs::read_to_string(&path).unwrap();
    let more = format!(
        "{},{},{}]",
        text.trim_end_matches(']'),
        open("1"),
        open("9")
    );
    fs::write(&path, more).unwrap();
    let words = [
        "3 items are wrong",
        "item 1: question `2`: `video_name` is missing",
        "item 2: question_id `1` is already used by item 0",
        "item 3: question `9` has no answer",
    ];
    toy.run("open-ended").finish().failed(1, &words);
    fs::write(&path, "[{]").unwrap();
    toy.run("open-ended")
        .finish()
        .failed(1, &["test_q.json: expected a list of objects", "line 1"]);
    let mistyped = toy
        .run("open-ended")
        .args(["--num-chunks", "2", "--chunk-idx", "2"]);
    toy.write();
    mistyped.finish().failed(1, &["item 1"]);

    let mut toy = Benchmark::new();
    let mcq = |id: &str, letters: usize| json!({"video_name": "a", "question_id": id, "question": "?", "options": ["x", "y"], "num_option": letters});
    toy.add(mcq("1", 2), json!({"answer_id": 2}));
    toy.add(mcq("2", 3), json!({"answer_id": 0}));
    toy.add(open("3"), json!({"answer_id": 0}));
    // With one option, every answer would be correct.
    toy.add(mcq("4", 1), json!({"answer_id": 0}));
    toy.write();
    let words = [
        "`4`: `num_option` is 1 and there are 2 options; expected 2 to 26",
        "`1`: `answer_id` is 2",
        "`2`: `num_option` is 3 and there are 2 options",
        "`3`: the list `options` is missing",
    ];
    toy.run("mcq").finish().failed(1, &words);
    let nowhere = merv_tests::Run::new()
        .args(["eval", "mcq", "--benchmark", "toi", "--out"])
        .arg(toy.path("out"));
    nowhere
        .arg("--data-dir")
        .arg(toy.path("eval_data"))
        .finish()
        .failed(1, &["did you mean `toy`?"]);
}
