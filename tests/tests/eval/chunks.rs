//! Evaluations in several processes, and killed evaluations.

use super::{SHORT, start};
use merv_tests::{Benchmark, Tiny, artifacts, root, small_clip};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// Kills a run several times, continues it with different numbers of chunks, and compares the result with that of an
/// undisturbed run.
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
        // Waits for some answers and then a random time, which works on machines of any speed.
        let enough = lines() + random as usize % 4;
        let mut child = start(&toy, "open-ended", "out", &more);
        while lines() < enough && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(u64::from(random >> 27)));
        killed += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        // What a kill in the middle of a line leaves.
        if running.exists() && n != 2 {
            let mut file = fs::OpenOptions::new().append(true).open(running).unwrap();
            file.write_all(b"{\"question_id\": 3, \"pred\": \"to")
                .unwrap();
        }
    }
    assert!(
        killed >= 3,
        "the runs ended before they could be killed: {killed}"
    );
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
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        asked += report["asked"].as_u64().unwrap() as usize;
    }
    assert_eq!(asked, 24 - kept.len(), "answered questions are asked again");
    assert_eq!(
        fs::read_to_string(toy.result("toy_pred_merge.jsonl")).unwrap(),
        whole
    );
    // No files of other numbers of chunks and no partial files remain.
    assert_eq!(toy.files("out"), toy.files("whole"));
}

#[test]
fn a_finished_chunk_reports_what_remains_and_needs_no_model() {
    let toy = Benchmark::open_ended(4);
    let tiny = Tiny::new();
    let chunk = |index: &str| {
        let run = toy.ask(&tiny.registry(), "open-ended", "out").args(SHORT);
        let run = run.args(["--json", "--num-chunks", "3", "--chunk-idx", index]);
        let report: Value = serde_json::from_str(&run.finish().succeeded().stdout).unwrap();
        ["complete", "asked", "left"].map(|key| report[key].clone())
    };
    // Twelve questions in three chunks.
    assert_eq!(chunk("0"), [json!(false), json!(4), json!(8)]);
    assert_eq!(chunk("2"), [json!(false), json!(4), json!(4)]);
    let weights = tiny.path("llm/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, "no weights").unwrap();
    assert_eq!(chunk("0"), [json!(false), json!(0), json!(4)]);
    fs::write(&weights, bytes).unwrap();
    let [complete, asked, _] = chunk("1");
    assert_eq!([complete, asked], [json!(true), json!(4)]);
}

#[test]
fn four_concurrent_processes_give_the_result_of_one() {
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

/// A fenced block of `docs/evaluation.md`, changed to use merv-tiny and the small benchmark.
fn example(fence: &str) -> String {
    let text = fs::read_to_string(root().join("docs/evaluation.md")).unwrap();
    let block = text
        .split(&format!("```{fence}\n"))
        .nth(1)
        .expect("the example exists");
    let block = block.split("```").next().unwrap();
    block
        .replace("merv-full", "merv-tiny")
        .replace("MSVD", "toy")
}

/// Runs a script as a user would, in a folder with `eval_data`.
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

/// The command of a pod of the example for Kubernetes.
fn pod_command() -> String {
    let job = example("yaml kubernetes");
    assert!(job.contains("completions: 8\n") && job.contains("--num-chunks=8\n"));
    let lines = job
        .lines()
        .skip_while(|line| line.trim() != "args:")
        .skip(1);
    let arguments = lines.map_while(|line| line.trim().strip_prefix("- "));
    let command = ["merv-host"].into_iter().chain(arguments);
    let command = command.collect::<Vec<_>>().join(" ");
    // Kubernetes writes variables with parentheses. The volume is the folder of the test.
    command
        .replace("$(JOB_COMPLETION_INDEX)", "$JOB_COMPLETION_INDEX")
        .replace("/shared/", "")
        .replace("-chunks=8", "-chunks=3")
}

#[test]
fn the_examples_for_several_machines_work() {
    let toy = Benchmark::open_ended(2);
    let merged =
        || fs::read_to_string(toy.path("eval_result/merv-tiny/toy_pred_merge.jsonl")).unwrap();
    // 512 tokens take too long for a test.
    let short = |script: String| script.replace("--num-chunks", "--max-new-tokens 6 --num-chunks");
    let slurm = short(example("sh slurm"));
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
    let pod = short(pod_command());
    for index in ["2", "0", "1"] {
        let mut pod = bash(&toy, &pod, &[("JOB_COMPLETION_INDEX", index)]);
        assert!(pod.wait().unwrap().success());
    }
    assert_eq!(merged(), by_slurm);
    fs::remove_dir_all(toy.path("eval_result")).unwrap();
    // Replaces GNU parallel, which may not be installed.
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
        bash(&toy, &short(example("sh parallel")), &[])
            .wait()
            .unwrap()
            .success()
    );
    assert_eq!(merged(), by_slurm);
}
