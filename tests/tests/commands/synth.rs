//! `merv-host synth`: data that depend on the seed alone, in the formats of training and evaluation.

use merv_tests::{Run, artifacts, sha256};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};
use tempfile::{TempDir, tempdir};

const CLIPS: usize = 24;

fn synth(out: &Path, more: &[&str]) -> Run {
    let run = Run::new()
        .args(["synth", "--seed", "11", "--json", "--out"])
        .arg(out);
    run.args(["--clips", &CLIPS.to_string()]).args(more)
}

/// Every file below a folder, with its digest.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, sha256(&fs::read(path).unwrap()));
            }
        }
    }
    files
}

fn list(path: PathBuf) -> Vec<Value> {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn made() -> TempDir {
    let folder = tempdir().unwrap();
    synth(folder.path(), &[]).finish().succeeded();
    folder
}

#[test]
fn the_seed_determines_every_byte() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    synth(first.path(), &["--threads", "1"])
        .finish()
        .succeeded();
    synth(second.path(), &["--threads", "3"])
        .finish()
        .succeeded();
    let files = tree(first.path());
    assert_eq!(files.len(), 7 + 3 * CLIPS);
    assert_eq!(files, tree(second.path()));
    // A split is the same whether it is written alone or with the other.
    let alone = tempdir().unwrap();
    synth(alone.path(), &["--split", "held-out"])
        .finish()
        .succeeded();
    let of_both = files
        .into_iter()
        .filter(|(path, _)| path.starts_with("eval_data"));
    assert_eq!(tree(alone.path()), of_both.collect());
}

#[test]
fn training_data_have_llavas_format() {
    let folder = made();
    let all = list(folder.path().join("train.json"));
    let captions = list(folder.path().join("captions.json"));
    let open = list(folder.path().join("open.json"));
    let counts = [all.len(), open.len(), captions.len()];
    assert_eq!(counts, [3 * CLIPS, 2 * CLIPS, CLIPS]);
    let is_choice = |example: &&Value| text(&example["id"]).ends_with("-choices");
    assert!(
        open.iter()
            .eq(all.iter().filter(|example| !is_choice(example)))
    );
    let mut ids = BTreeSet::new();
    for example in &all {
        assert!(ids.insert(text(&example["id"])));
        assert!(folder.path().join(text(&example["video"])).is_file());
        let turns = example["conversations"].as_array().unwrap();
        assert!(!turns.is_empty() && turns.len() % 2 == 0);
        for (index, turn) in turns.iter().enumerate() {
            assert_eq!(turn["from"], ["human", "gpt"][index % 2]);
            let value = text(&turn["value"]);
            assert_eq!(value.starts_with("<video>\n"), index == 0);
            assert!(!value.is_empty());
        }
    }
    for caption in &captions {
        assert_eq!(caption["conversations"].as_array().unwrap().len(), 2);
        assert!(all.contains(caption));
    }
}

#[test]
fn held_out_questions_have_the_format_of_benchmarks() {
    let folder = made();
    let benchmark = |name: &str, file: &str| folder.path().join("eval_data").join(name).join(file);
    let questions = list(benchmark("shapes-mcq", "test_q.json"));
    let answers = list(benchmark("shapes-mcq", "test_a.json"));
    let open = list(benchmark("shapes-open", "test_q.json"));
    let open_answers = list(benchmark("shapes-open", "test_a.json"));
    assert!(questions.len() >= 2 * CLIPS);
    assert_eq!(
        (answers.len(), open.len(), open_answers.len()),
        (questions.len(), questions.len(), questions.len())
    );
    let mut kinds = BTreeSet::new();
    for (index, question) in questions.iter().enumerate() {
        let answer = &answers[index];
        assert_eq!(question["question_id"], answer["question_id"]);
        let options = question["options"].as_array().unwrap();
        assert_eq!(question["num_option"], options.len());
        let right = answer["answer_id"].as_u64().unwrap() as usize;
        assert_eq!(options[right], answer["answer"]);
        for key in ["question_id", "video_name", "question", "kind"] {
            assert_eq!(open[index][key], question[key]);
        }
        assert!(open[index].get("options").is_none());
        assert_eq!(open_answers[index]["answer"], answer["answer"]);
        let clip = format!("videos/{}.mp4", text(&question["video_name"]));
        for name in ["shapes-mcq", "shapes-open"] {
            assert!(benchmark(name, &clip).is_file());
        }
        kinds.insert(text(&question["kind"]));
    }
    assert!(kinds.len() >= 8, "{kinds:?}");
    let combinations = |items: &[Value]| {
        let names = items
            .iter()
            .map(|item| text(&item["combination"]).to_owned());
        names.collect::<BTreeSet<_>>()
    };
    let train = list(folder.path().join("train.json"));
    assert!(combinations(&train).is_disjoint(&combinations(&questions)));
}

#[test]
fn existing_files_are_overwritten_only_with_force() {
    let folder = made();
    let before = tree(folder.path());
    let refused = |run: Run, words: &[&str]| run.finish().failed(1, words);
    refused(synth(folder.path(), &[]), &["is not empty", "--force"]);
    assert_eq!(tree(folder.path()), before);
    let mine = folder.path().join("mine.txt");
    fs::write(&mine, "mine").unwrap();
    synth(folder.path(), &["--force", "--seed", "12", "--clips", "2"])
        .finish()
        .failed(2, &["--seed"]);
    let run = Run::new()
        .args(["synth", "--clips", "2", "--force", "--out"])
        .arg(folder.path());
    run.finish().succeeded();
    assert_eq!(fs::read(mine).unwrap(), b"mine");
    assert_eq!(list(folder.path().join("train.json")).len(), 6);

    let new = folder.path().join("new");
    let odd = synth(&new, &["--size", "63"]).finish();
    odd.failed(2, &["size", "63", "even"]);
    let none = Run::new()
        .args(["synth", "--clips", "0", "--out"])
        .arg(&new);
    none.finish().failed(2, &["number of clips", "0"]);
    assert!(!new.exists());
    let file = folder.path().join("train.json");
    refused(synth(&file, &[]), &["train.json"]);
}

#[test]
fn a_killed_run_leaves_no_lists() {
    let folder = tempdir().unwrap();
    // The lists of an earlier run must not be mistaken for those of the killed one.
    synth(folder.path(), &[]).finish().succeeded();
    let mut child = Command::new(&artifacts().host)
        .args(["synth", "--force", "--clips", "100000", "--quiet", "--out"])
        .arg(folder.path())
        .spawn()
        .unwrap();
    while !folder.path().join("videos/000030.mp4").exists() {
        thread::sleep(Duration::from_millis(5));
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it was killed"
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let files = tree(folder.path());
    let lists = files
        .keys()
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    assert_eq!(lists.count(), 0);
    let whole = |path: &PathBuf| {
        let bytes = fs::read(folder.path().join(path)).unwrap();
        bytes.windows(4).any(|four| four == b"moov")
    };
    let mut clips = files
        .keys()
        .filter(|path| path.extension().is_some_and(|end| end == "mp4"));
    assert!(clips.all(whole));
}

#[test]
fn the_clips_can_be_encoded_and_described() {
    let folder = made();
    let features = folder.path().join("features");
    let data = folder.path().join("train.json");
    let encode = |run: Run| {
        run.arg("encode")
            .arg("--data")
            .arg(&data)
            .arg("--json")
            .arg("--out")
            .arg(&features)
    };
    let run = encode(Run::new()).finish().succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&report["clips"], &report["encoded"]),
        (&Value::from(CLIPS), &Value::from(CLIPS))
    );
    let clip = folder.path().join("eval_data/shapes-mcq/videos/000000.mp4");
    let run = Run::new().args([
        "generate",
        "--prompt",
        "What?",
        "--max-new-tokens",
        "1",
        "--video",
    ]);
    run.arg(clip).finish().succeeded();
}
