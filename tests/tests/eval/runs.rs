//! Evaluation with the lively model on small benchmarks in the original's layout.

use merv_host::{GenerateOptions, VideoOptions, eval::protocol};
use merv_tests::{Benchmark, Tiny, artifacts, json_lines, root, small_clip, tiny_model};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// Few tokens, which random weights would not end by themselves.
const SHORT: [&str; 2] = ["--max-new-tokens", "6"];

fn short() -> GenerateOptions {
    let mut options = GenerateOptions::default();
    options.limits.max_new_tokens = 6;
    options
}

/// A process that a test handles itself.
fn start(toy: &Benchmark, task: &str, out: &str, more: &[&str]) -> Child {
    Command::new(&artifacts().host)
        .current_dir(root())
        .args(toy.arguments(task, out))
        .args(SHORT)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("merv-host starts")
}

#[test]
fn open_ended_answers_are_those_of_one_at_a_time() {
    let toy = Benchmark::open_ended(4);
    let run = toy
        .run("open-ended")
        .args(SHORT)
        .arg("--json")
        .finish()
        .succeeded();
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
    // Nothing is left to do, and no model is loaded for it.
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
fn multiple_choice_by_letter_and_by_likelihood() {
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
        by_letter += usize::from(protocol::first_letter(&alone.text, 3) == Some(i % 3));
    }
    let value = |i: usize| report["measures"][i]["value"].as_f64().unwrap() * 6.0;
    assert_eq!(report["measures"][1]["measure"], "likelihood");
    assert!(
        (value(0) - by_letter as f64).abs() < 1e-9
            && (value(1) - by_likelihood as f64).abs() < 1e-9
    );
    assert_eq!(report["kinds"][0]["kind"], "even");
    assert_eq!(report["kinds"][0]["measures"][0]["count"], 3);
    // As the original's tools read it.
    let verdicts: Value =
        serde_json::from_str(&fs::read_to_string(toy.result("toy_naive_gpt.json")).unwrap())
            .unwrap();
    let first = &verdicts["q_0"];
    assert_eq!(first[0]["score"], 0);
    assert_eq!(first[0]["pred"] == "yes", first[1]["acc"] == true);
    assert_eq!(first[1]["pred"], lines[0]["pred"]);
    // One strategy alone.
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
fn times_and_last_frames_are_honoured() {
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
    // One question of TVQA has NaN for both times; JSON has no NaN, Python does.
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
        "the windows change nothing"
    );
}

/// Kills a run again and again, goes on with other numbers of chunks, and compares with a run that was not
/// disturbed.
#[test]
fn kills_lose_nothing_and_repeat_nothing() {
    let mut toy = Benchmark::new();
    for i in 0..24 {
        let video = format!("v{}", i % 8);
        let path = toy.path(&format!("eval_data/toy/videos/{video}.mp4"));
        if !path.exists() {
            fs::copy(small_clip(), &path).unwrap();
        }
        toy.add(
            json!({"video_name": video, "question_id": i, "question": format!("question {i}?")}),
            json!({"answer": i}),
        );
    }
    toy.write();
    toy.run_into("open-ended", "whole")
        .args(SHORT)
        .finish()
        .succeeded();
    let whole = fs::read_to_string(toy.path("whole/toy_pred_merge.jsonl")).unwrap();
    let more = |n: usize, k: usize| {
        let (n, k) = (n.to_string(), k.to_string());
        ["--batch-size", "2", "--num-chunks", &n, "--chunk-idx", &k].map(str::to_owned)
    };
    let mut random = 12345u32;
    let mut killed = 0;
    for (n, k) in [(1, 0), (1, 0), (3, 0), (3, 2), (2, 1), (3, 1), (1, 0)] {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let more = more(n, k);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let running = toy.path(&format!("out/toy_pred_{n}_{k}.jsonl"));
        let lines =
            || fs::read(&running).map_or(0, |text| text.split(|byte| *byte == b'\n').count());
        // However fast the machine is: when some more answers are there, and a random moment later.
        let enough = lines() + random as usize % 4;
        let mut child = start(&toy, "open-ended", "out", &more);
        while lines() < enough && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(u64::from(random >> 27)));
        killed += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        // As a kill in the middle of a line leaves it.
        if running.exists() && n != 2 {
            let mut file = fs::OpenOptions::new().append(true).open(running).unwrap();
            file.write_all(b"{\"question_id\": 3, \"pred\": \"to")
                .unwrap();
        }
    }
    assert!(killed >= 3, "the runs are too fast to be killed: {killed}");
    let mut kept = std::collections::BTreeSet::new();
    for file in toy.files("out").iter().filter(|f| f.contains("_pred_")) {
        let text = fs::read_to_string(toy.result(file)).unwrap();
        let whole = text.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["question_id"].as_u64()
        });
        kept.extend(whole);
    }
    let mut asked = 0;
    for k in 0..2 {
        let run = toy.run("open-ended").args(SHORT).args(more(2, k));
        let run = run.arg("--json").finish().succeeded();
        let said: Value = serde_json::from_str(&run.stdout).unwrap();
        asked += said["asked"].as_u64().unwrap() as usize;
    }
    assert_eq!(asked, 24 - kept.len(), "what is answered is asked again");
    assert_eq!(
        fs::read_to_string(toy.result("toy_pred_merge.jsonl")).unwrap(),
        whole
    );
    // Nothing of the other numbers of chunks is left lying about, nor what a kill left half written.
    assert_eq!(toy.files("out"), toy.files("whole"));
}

#[test]
fn four_processes_at_once_give_what_one_gives() {
    let toy = Benchmark::open_ended(5);
    toy.run_into("open-ended", "one")
        .args(SHORT)
        .finish()
        .succeeded();
    for turn in 0..2 {
        let out = format!("four{turn}");
        let chunks: Vec<Child> = (0..4)
            .map(|k| {
                let more = [
                    "--num-chunks",
                    "4",
                    "--threads",
                    "1",
                    "--chunk-idx",
                    &k.to_string(),
                ]
                .map(str::to_owned);
                let more: Vec<&str> = more.iter().map(String::as_str).collect();
                start(&toy, "open-ended", &out, &more)
            })
            .collect();
        for mut child in chunks {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(
            fs::read_to_string(toy.path(&format!("{out}/toy_pred_merge.jsonl"))).unwrap(),
            fs::read_to_string(toy.path("one/toy_pred_merge.jsonl")).unwrap()
        );
        assert_eq!(toy.files(&out), toy.files("one"));
    }
}

#[test]
fn unusable_videos_are_named_and_counted() {
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
    // Nothing may be missing unless it is said.
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
    for words in ["`3` is left out: gone", "`2` is left out: broken"] {
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
    // Mended, and only the rest is asked.
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
fn mistakes_in_a_benchmark_are_told_together() {
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
        "item 1: question `2`: there is no `video_name`",
        "item 2: question_id `1` is item 0's already",
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
    // With one option every answer would be right.
    toy.add(mcq("4", 1), json!({"answer_id": 0}));
    toy.write();
    let words = [
        "`4`: `num_option` is 1 and there are 2 options; expected 2 to 26",
        "`1`: `answer_id` is 2",
        "`2`: `num_option` is 3 and there are 2 options",
        "`3`: there is no list `options`",
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
        &["other settings", "max_new_tokens: there 6, here 7", "--out"],
    );
    let rounded = toy.run("open-ended").args(SHORT);
    let rounded = rounded.args(["--precision", "bf16"]).finish();
    let words = [
        "other settings",
        "- encoder 0 dtype: there \"auto\", here \"bf16\"",
        "- llm dtype: there \"auto\", here \"bf16\"",
    ];
    rounded.failed(1, &words);
    // Nor are those of another model that has the same id.
    let tiny = Tiny::new();
    let with_tiny = || toy.ask(&tiny.registry(), "open-ended", "out").args(SHORT);
    let run = with_tiny().finish();
    // Told in words that a registry uses, and only what differs.
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
    let words = [
        "other settings",
        "- llm weights: there",
        "- mixer weights: there",
    ];
    run.failed(1, &words);
    // What came to nothing binds nobody.
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
    // Nor is one chunk worked on twice at once.
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
fn kept_features_give_the_same_answers_without_the_encoders() {
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
fn what_synth_makes_is_a_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("shapes");
    let run = |args: &[&str]| merv_tests::Run::new().args(args).arg("--out");
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
        let said = eval.arg(data.join("eval_data")).finish().succeeded().stdout;
        let report: Value = serde_json::from_str(&said).unwrap();
        assert!(report["count"].as_u64().unwrap() > 0, "{report}");
        assert!(!report["kinds"].as_array().unwrap().is_empty(), "{report}");
    }
}

#[test]
fn two_results_are_compared_question_by_question() {
    let toy = Benchmark::open_ended(1);
    let write = |file: &str, right: &[bool]| {
        let lines = right.iter().enumerate().map(|(i, right)| {
            let pred = if *right { "A" } else { "b" };
            json!({"question_id": i, "video_name": i / 2, "pred": pred, "answer_char": "A"})
                .to_string()
                + "\n"
        });
        let path = toy.path(file);
        fs::write(&path, lines.collect::<String>()).unwrap();
        path
    };
    let a = write(
        "a.jsonl",
        &[true, true, false, false, false, false, false, false],
    );
    let b = write(
        "b.jsonl",
        &[true, false, true, true, true, true, false, false],
    );
    let compare = |b: &std::path::Path| {
        merv_tests::Run::new()
            .args(["eval", "compare"])
            .arg(&a)
            .arg(b)
    };
    let run = compare(&b).arg("--json").finish().succeeded();
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    let letter = &found["measures"][0];
    assert_eq!(letter["measure"], "letter");
    assert_eq!(
        (&letter["a"], &letter["b"], &letter["difference"]),
        (&json!(0.25), &json!(0.625), &json!(0.375))
    );
    assert_eq!(
        (&letter["a_better"], &letter["b_better"], &letter["count"]),
        (&json!(1), &json!(4), &json!(8))
    );
    assert_eq!(letter["p_value"], 0.375);
    let (low, high) = (
        letter["interval"][0].as_f64().unwrap(),
        letter["interval"][1].as_f64().unwrap(),
    );
    assert!(
        low < 0.375 && 0.375 < high && low >= -0.5 && high <= 1.0,
        "{low} {high}"
    );
    let table = compare(&b).finish().succeeded().stdout;
    assert!(table.contains("first letter  25.0  62.5  +37.5"), "{table}");
    let c = write("c.jsonl", &[true; 7]);
    compare(&c)
        .finish()
        .failed(1, &["c.jsonl lacks 1 of the other's questions: `7`"]);
    compare(&toy.path("eval_data"))
        .finish()
        .failed(1, &["cannot be read"]);
    compare(&toy.path("none.jsonl"))
        .finish()
        .failed(1, &["holds no predictions"]);
}

#[test]
fn several_results_stand_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let write = |model: &str, benchmark: &str, values: [f64; 3]| {
        let measures = |value: f64, count: usize| {
            json!([
                {"measure": "exact_match", "value": value, "interval": [0.0, 1.0], "count": count},
                {"measure": "token_f1", "value": 0.9, "interval": [0.0, 1.0], "count": count},
            ])
        };
        let [all, colour, order] = values;
        let report = json!({
            "benchmark": benchmark, "model": model, "accuracy": all, "count": 30, "unparsable": 0,
            "failed": 0, "failures": [], "measures": measures(all, 30), "kinds": [
                {"kind": "colour", "measures": measures(colour, 20)},
                {"kind": "order", "measures": measures(order, 10)},
            ],
        });
        let path = folder.path().join(format!("{model}-{benchmark}.json"));
        fs::write(&path, report.to_string()).unwrap();
        path
    };
    let table = |reports: &[&PathBuf]| {
        let reports = reports.iter().map(|path| path.display().to_string());
        merv_tests::Run::new()
            .args(["eval", "table"])
            .args(reports.collect::<Vec<_>>())
    };
    let mix = write("mix", "shapes", [0.9, 0.95, 0.8]);
    let one = write("one", "shapes", [0.85, 0.955, 0.8]);
    assert_eq!(
        table(&[&mix, &one]).finish().succeeded().stdout,
        "| kind | questions | mix | one |\n\
         | --- | --- | --- | --- |\n\
         | all | 30 | **90.0 %** | 85.0 % |\n\
         | colour | 20 | 95.0 % | **95.5 %** |\n\
         | order | 10 | **80.0 %** | **80.0 %** |\n"
    );
    let object = table(&[&one, &mix])
        .arg("--json")
        .finish()
        .succeeded()
        .stdout;
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(object["models"], json!(["one", "mix"]));
    assert_eq!(object["measure"], "exact_match");
    assert_eq!(
        object["rows"][1],
        json!({"kind": "colour", "count": 20, "values": [0.955, 0.95]})
    );
    let models = |reports: &[&PathBuf]| {
        let object = table(reports).arg("--json").finish().succeeded().stdout;
        serde_json::from_str::<Value>(&object).unwrap()["models"].clone()
    };
    // Models of one name are told apart by what differs: folder, file, or place alone.
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let copies = [
        first.join("r.json"),
        first.join("s.json"),
        second.join("r.json"),
    ];
    for copy in &copies {
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&mix, copy).unwrap();
    }
    let [in_a, also_in_a, in_b] = &copies;
    let named = |path: &std::path::Path| format!("mix ({})", path.display());
    assert_eq!(
        models(&[in_a, &one, in_b]),
        json!([named(&first), "one", named(&second)])
    );
    assert_eq!(
        models(&[in_a, also_in_a]),
        json!([named(in_a), named(also_in_a)])
    );
    assert_eq!(models(&[&mix, &mix]), json!(["mix (1)", "mix (2)"]));
    let other = write("mix", "other", [0.9, 0.95, 0.8]);
    table(&[&mix, &other])
        .finish()
        .failed(1, &["cannot be compared", "shapes", "other"]);
    let none = folder.path().join("none.json");
    table(&[&mix, &none])
        .finish()
        .failed(1, &["none.json is not a result: there is no such file"]);
    fs::write(&none, "{}").unwrap();
    table(&[&none])
        .finish()
        .failed(1, &["none.json is not a result", "_report.json"]);
}

/// The text of a fenced block of `docs/evaluation.md`, for merv-tiny and the small benchmark.
fn example(fence: &str) -> String {
    let text = fs::read_to_string(root().join("docs/evaluation.md")).unwrap();
    let block = text
        .split(&format!("```sh {fence}\n"))
        .nth(1)
        .expect("the example is there");
    let block = block.split("```").next().unwrap();
    block
        .replace("merv-full", "merv-tiny")
        .replace("MSVD", "toy")
}

/// As the shell of a user in a folder with `eval_data` has it.
fn bash(toy: &Benchmark, script: &str, variables: &[(&str, &str)]) -> Child {
    let programs = artifacts().host.parent().unwrap();
    let path = format!(
        "{}:{}:/usr/bin:/bin",
        toy.path("bin").display(),
        programs.display()
    );
    Command::new("bash")
        .args(["-euc", script])
        .current_dir(toy.path("."))
        .env("PATH", path)
        .env("MERV_REGISTRY_PATH", root().join("registry"))
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_examples_for_many_machines_work() {
    let toy = Benchmark::open_ended(2);
    let merged =
        || fs::read_to_string(toy.path("eval_result/merv-tiny/toy_pred_merge.jsonl")).unwrap();
    // 512 tokens are too many for a test.
    let short = |script: String| script.replace("--num-chunks", "--max-new-tokens 6 --num-chunks");
    let slurm = short(example("slurm"));
    let tasks: Vec<Child> = ["0", "1", "2"]
        .map(|task| {
            let variables = [
                ("SLURM_ARRAY_TASK_COUNT", "3"),
                ("SLURM_ARRAY_TASK_ID", task),
            ];
            bash(&toy, &slurm, &variables)
        })
        .into();
    for mut task in tasks {
        assert!(task.wait().unwrap().success());
    }
    let by_slurm = merged();
    fs::remove_dir_all(toy.path("eval_result")).unwrap();
    // Stands in for GNU parallel, which this machine may not have.
    fs::create_dir(toy.path("bin")).unwrap();
    let parallel = r#"#!/bin/bash
shift 2
command=()
while [ "$1" != ::: ]; do command+=("$1"); shift; done
shift
tasks=()
for argument in "$@"; do "${command[@]//\{\}/$argument}" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task"; done
"#;
    fs::write(toy.path("bin/parallel"), parallel).unwrap();
    let made = Command::new("chmod")
        .arg("+x")
        .arg(toy.path("bin/parallel"))
        .status()
        .unwrap();
    assert!(made.success());
    assert!(
        bash(&toy, &short(example("parallel")), &[])
            .wait()
            .unwrap()
            .success()
    );
    assert_eq!(merged(), by_slurm);
}

#[test]
fn the_documentation_names_every_option() {
    let text = fs::read_to_string(root().join("docs/evaluation.md")).unwrap();
    let help = |command: &[&str]| {
        merv_tests::Run::new()
            .args(command)
            .arg("--help")
            .finish()
            .succeeded()
            .stdout
    };
    let options = |text: &str| -> std::collections::BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        words
            .filter(|w| w.starts_with("--") && w.len() > 2)
            .map(str::to_owned)
            .collect()
    };
    let mut own = std::collections::BTreeSet::new();
    for command in ["open-ended", "mcq", "judge", "compare", "table"] {
        own.extend(options(&help(&["eval", command])));
    }
    let global = options(&help(&[]));
    let own: std::collections::BTreeSet<_> = own.difference(&global).cloned().collect();
    let described = text
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .flat_map(options);
    assert_eq!(
        described
            .filter(|o| !global.contains(o))
            .collect::<std::collections::BTreeSet<_>>(),
        own
    );
}
