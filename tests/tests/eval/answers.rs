//! The answers of an evaluation equal those of `generate` for one question at a time.

use super::{SHORT, short};
use merv_host::{VideoOptions, eval::protocol};
use merv_tests::{Benchmark, Run, json_lines, tiny_model};
use serde_json::{Value, json};
use std::fs;

#[test]
fn open_ended_answers_match_single_questions() {
    let toy = Benchmark::open_ended(4);
    let run = toy
        .run("open-ended")
        .args(SHORT)
        .arg("--json")
        .finish()
        .succeeded();
    assert!(!run.stderr.contains("note:"), "{run}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&report["complete"], &report["count"], &report["asked"]),
        (&json!(true), &json!(12), &json!(12))
    );
    let lines = json_lines(&toy.result("toy_pred_merge.jsonl"));
    let model = tiny_model();
    for (i, line) in lines.iter().enumerate() {
        let (name, file) = [("a", "a.mp4"), ("b", "b.gif"), ("c", "c")][i % 3];
        let mut options = short();
        options.video.folder_fps = Some(3.0);
        let question = format!("what is thing {i} doing?");
        let video = toy.path("eval_data/toy/videos").join(file);
        let alone = model.generate(video, &question, &options).unwrap();
        let expected = json!({
            "video_name": name, "question_id": i.to_string(), "question": question, "answer": "show",
            "pred": alone.text, "message": question,
        });
        let mut line = line.clone();
        let weights = line.remove("mixer_value").unwrap();
        assert!(line.remove("crc32").is_some_and(|sum| sum.is_string()));
        assert_eq!(Value::Object(line), expected);
        for (found, (_, weight)) in weights.as_array().unwrap().iter().zip(alone.mixer_weights) {
            assert_eq!(found.as_f64().unwrap() as f32, weight);
        }
    }
    assert_eq!(
        toy.files("out"),
        [
            "toy_pred_merge.jsonl",
            "toy_report.json",
            "toy_report.md",
            "toy_settings.json"
        ]
    );
    // Everything is answered, so no model is loaded.
    let again = toy
        .run("open-ended")
        .args(SHORT)
        .args(["--json", "--plugin-dir", "tests"]);
    let again: Value = serde_json::from_str(&again.finish().succeeded().stdout).unwrap();
    assert_eq!(
        (&again["asked"], &again["measures"]),
        (&json!(0), &report["measures"])
    );
}

#[test]
fn multiple_choice_is_answered_by_letter_and_by_likelihood() {
    let toy = Benchmark::multiple_choice(2);
    let run = toy
        .run("mcq")
        .args(SHORT)
        .arg("--json")
        .finish()
        .succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let lines = json_lines(&toy.result("toy_naive_pred_merge.jsonl"));
    let model = tiny_model();
    let letters: Vec<Vec<u32>> = ["A", "B", "C"]
        .map(|l| model.first_tokens(l).unwrap())
        .to_vec();
    assert!(letters.iter().all(|ids| !ids.is_empty()), "{letters:?}");
    let (mut by_letter, mut by_likelihood) = (0, 0);
    let mut rights = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let asked = format!(
            "Which is number {i}? Select the correct answer from the following options. Write your answer as only one of A, B, C and nothing else.\n\n    A. red\nB. green\nC. blue"
        );
        assert_eq!(line["question_text"], asked);
        assert_eq!(line["answer_char"], ["A", "B", "C"][i % 3]);
        // What `generate` computes for the same prompt.
        let dump = toy.path("dump.safetensors");
        let mut options = short();
        options.video.folder_fps = Some(3.0);
        options.dump = Some(dump.clone());
        let video = toy
            .path("eval_data/toy/videos")
            .join(["a.mp4", "b.gif", "c"][i % 3]);
        let alone = model.generate(video, &asked, &options).unwrap();
        assert_eq!(line["pred"], alone.text);
        let tensors = merv_tests::read(&dump);
        let logits = &tensors.get("logits").values;
        let weight = |ids: &Vec<u32>| -> f64 {
            ids.iter()
                .map(|&id| f64::from(logits[id as usize]).exp())
                .sum()
        };
        let weights: Vec<f64> = letters.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        for (found, weight) in line["likelihoods"].as_array().unwrap().iter().zip(&weights) {
            assert!(
                (found.as_f64().unwrap() - weight / total).abs() < 1e-9,
                "{line:?}"
            );
        }
        let best = (0..3)
            .max_by(|&a, &b| weights[a].total_cmp(&weights[b]))
            .unwrap();
        assert_eq!(line["likelihood_char"], ["A", "B", "C"][best]);
        by_likelihood += usize::from(best == i % 3);
        let right = protocol::first_letter(&alone.text, 3) == Some(i % 3);
        by_letter += usize::from(right);
        rights.push(right);
    }
    let value = |i: usize| report["measures"][i]["value"].as_f64().unwrap() * 6.0;
    assert_eq!(report["measures"][1]["measure"], "likelihood");
    assert!(
        (value(0) - by_letter as f64).abs() < 1e-9
            && (value(1) - by_likelihood as f64).abs() < 1e-9
    );
    assert_eq!(report["kinds"][0]["kind"], "even");
    assert_eq!(report["kinds"][0]["measures"][0]["count"], 3);
    // The format that the original's tools read.
    let verdicts: Value =
        serde_json::from_str(&fs::read_to_string(toy.result("toy_naive_gpt.json")).unwrap())
            .unwrap();
    assert!(rights.contains(&false));
    for (i, right) in rights.into_iter().enumerate() {
        let verdict = &verdicts[format!("q_{i}")];
        assert_eq!(verdict[0]["score"], 0);
        assert_eq!(verdict[0]["pred"], if right { "yes" } else { "no" });
        assert_eq!(verdict[1]["acc"], right);
        assert_eq!(verdict[1]["pred"], lines[i]["pred"]);
    }
    // A single strategy.
    let run = toy
        .run("mcq")
        .args(["--strategy", "likelihood", "--json"])
        .finish()
        .succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!((report["accuracy"].as_f64().unwrap() * 6.0 - by_likelihood as f64).abs() < 1e-9);
    let alone = json_lines(&toy.result("toy_likelihood_pred_merge.jsonl"));
    for (alone, line) in alone.iter().zip(&lines) {
        assert_eq!(alone["pred"], line["likelihood_char"]);
    }
}

#[test]
fn times_and_last_frames_are_respected() {
    let mut toy = Benchmark::new();
    let ask = |id: &str, video: &str, more: Value| {
        let mut question =
            json!({"video_name": video, "question_id": id, "question": "what moves?"});
        question
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        question
    };
    let cases = [
        ("whole", "a", json!({})),
        ("window", "a", json!({"time": [0.5, 1.25]})),
        ("frame", "a", json!({"end_frame": 9})),
        ("none", "a", json!({"end_frame": -1})),
        ("folder", "c", json!({"time": [0.4, 1.0]})),
    ];
    for (id, video, more) in &cases {
        toy.add(ask(id, video, more.clone()), json!({"answer": "it"}));
    }
    toy.write();
    // One question of TVQA has NaN for both times, which Python writes although JSON does not allow it.
    let path = toy.path("eval_data/toy/test_q.json");
    let text = fs::read_to_string(&path).unwrap();
    let nan = text.replacen(
        r#""question_id":"none""#,
        r#""question_id":"none","time":[NaN,NaN]"#,
        1,
    );
    assert_ne!(text, nan);
    fs::write(&path, nan).unwrap();
    toy.run("open-ended").args(SHORT).finish().succeeded();
    let model = tiny_model();
    let lines = json_lines(&toy.result("toy_pred_merge.jsonl"));
    let mut weights = Vec::new();
    for (line, (id, video, more)) in lines.iter().zip(&cases) {
        let mut options = short();
        options.video = VideoOptions {
            start: more["time"][0].as_f64(),
            end: more["time"][1].as_f64(),
            end_frame: more["end_frame"].as_i64(),
            folder_fps: Some(3.0),
            ..VideoOptions::default()
        };
        let file = if *video == "a" { "a.mp4" } else { "c" };
        let video = toy.path("eval_data/toy/videos").join(file);
        let alone = model.generate(video, "what moves?", &options).unwrap();
        assert_eq!(line["pred"], alone.text, "{id}");
        weights.push(alone.mixer_weights);
    }
    assert_eq!(weights[0], weights[3]);
    assert!(
        weights[0] != weights[1] && weights[0] != weights[2],
        "the windows do not change the result"
    );
}

#[test]
fn cached_features_give_the_same_answers_without_the_encoders() {
    let toy = Benchmark::open_ended(1);
    let cache = toy.path("features");
    for out in ["first", "second"] {
        let run = toy
            .run_into("open-ended", out)
            .args(SHORT)
            .arg("--feature-cache")
            .arg(&cache);
        run.finish().succeeded();
    }
    let shards = fs::read_dir(cache.join("shards")).unwrap().count();
    assert_eq!(shards, 1, "the second run computes nothing");
    let read = |out: &str| fs::read_to_string(toy.path(out).join("toy_pred_merge.jsonl")).unwrap();
    assert_eq!(read("first"), read("second"));
}

#[test]
fn data_of_synth_is_a_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("shapes");
    let run = |args: &[&str]| Run::new().args(args).arg("--out");
    run(&[
        "synth", "--clips", "2", "--split", "held-out", "--seed", "1",
    ])
    .arg(&data)
    .finish()
    .succeeded();
    for (task, benchmark) in [("mcq", "shapes-mcq"), ("open-ended", "shapes-open")] {
        let eval = run(&[
            "eval",
            task,
            "--benchmark",
            benchmark,
            "--json",
            SHORT[0],
            SHORT[1],
        ]);
        let eval = eval.arg(folder.path().join("out")).arg("--data-dir");
        let stdout = eval.arg(data.join("eval_data")).finish().succeeded().stdout;
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert!(report["count"].as_u64().unwrap() > 0, "{report}");
        assert!(!report["kinds"].as_array().unwrap().is_empty(), "{report}");
    }
}

/// The clips differ from those that it was trained on, and the combinations in them do too.
#[test]
fn merv_tiny_has_learned_multiple_choice() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("shapes");
    let synth = [
        "synth", "--clips", "8", "--split", "held-out", "--seed", "5",
    ];
    let synth = Run::new().args(synth).arg("--out").arg(&data);
    synth.finish().succeeded();
    let eval = Run::new().args(["eval", "mcq", "--benchmark", "shapes-mcq", "--json"]);
    let eval = eval.args(SHORT).arg("--out").arg(folder.path().join("out"));
    let eval = eval.arg("--data-dir").arg(data.join("eval_data"));
    let report: Value = serde_json::from_str(&eval.finish().succeeded().stdout).unwrap();
    let measures = report["measures"].as_array().unwrap();
    let values = measures.iter().map(|measure| &measure["value"]);
    let values: Vec<f64> = values.map(|value| value.as_f64().unwrap()).collect();
    // By the first letter of the reply, and by the likeliest letter.
    assert_eq!(values.len(), 2, "{report}");
    assert!(values.iter().all(|value| *value >= 0.9), "{report}");
}
