//! A dry run fails for the same reasons and with the same messages as the run, and so does `info` if the model causes the
//! failure.

use merv_tests::{
    Finished, Tiny, TrainingRun, assert_cases, edit, plugin_folder, small_clip,
    tiny_with_one_encoder,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A run of a stage that must be refused.
struct BadRun {
    run: TrainingRun,
    /// Folders that must exist until the run ends.
    folders: Vec<Arc<TempDir>>,
}

impl BadRun {
    fn new(stage: &str, tiny: &Tiny) -> Self {
        let registry = tiny.registry().display().to_string();
        let run = TrainingRun::new(stage).arg("--registry").arg(registry);
        let run = run.set("max_steps", 1).set("save_every", 1);
        Self {
            run,
            folders: Vec::new(),
        }
    }

    fn set(self, key: &str, value: impl ToString) -> Self {
        Self {
            run: self.run.set(key, value),
            ..self
        }
    }

    /// Sets the examples, in a folder with `clip.mp4`.
    fn with_data(self, examples: &Value) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        fs::copy(small_clip(), folder.path().join("clip.mp4")).unwrap();
        let data = folder.path().join("data.json");
        fs::write(&data, examples.to_string()).unwrap();
        let media = folder.path().display().to_string();
        let mut wrong = self.set("data", data.display()).set("media", media);
        wrong.folders.push(folder);
        wrong
    }

    fn start(&self, dry: bool) -> Finished {
        let mut run = self.run.run();
        for folder in &self.folders {
            run = run.keeping(folder);
        }
        let run = match dry {
            true => run.arg("--dry-run"),
            false => run,
        };
        run.finish()
    }

    /// Checks that the run and its dry run are refused, and that the dry run creates nothing.
    #[track_caller]
    fn check_refused(&self, words: &[&str]) {
        let out = self.run.out();
        let before = out.exists();
        self.start(true).failed(1, words);
        assert_eq!(out.exists(), before, "a dry run must not create anything");
        self.start(false).failed(1, words);
    }
}

/// An example about the clip, with additional keys.
fn example(id: usize, more: &[(&str, Value)]) -> Value {
    let mut example = json!({"id": id.to_string(), "video": "clip.mp4", "conversations": [
        {"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]});
    for (key, value) in more {
        example[key] = value.clone();
    }
    example
}

/// A folder with the plugin whose models cannot be trained, and the option that selects it.
fn plugins() -> (Arc<TempDir>, [String; 2]) {
    let folder = Arc::new(plugin_folder(&["faulty"]));
    let option = [
        "--plugin-dir".to_owned(),
        folder.path().display().to_string(),
    ];
    (folder, option)
}

const SIGLIP: &str = "id = \"siglip-vit-b16-224px-all-no-cls\"
plugin = \"siglip\"
num_frames = 16
weights = { path = \"siglip/model.safetensors\" }";

#[test]
fn an_encoder_that_cannot_be_trained_is_refused() {
    let (folder, [option, path]) = plugins();
    let tiny = tiny_with_one_encoder();
    let fine = "id = \"fine\"\nplugin = \"faulty\"\nnum_frames = 16";
    tiny.replace("registry.toml", SIGLIP, fine);
    let mut wrong = BadRun::new("full-finetune", &tiny);
    wrong.run = wrong.run.arg(&option).arg(&path);
    wrong.folders.push(folder);
    wrong.check_refused(&[
        "`full-finetune` trains the encoders, and `fine` cannot be trained",
        "--stage finetune",
        "plugin `faulty`",
    ]);
}

#[test]
fn a_language_model_without_gradients_is_refused() {
    let (folder, [option, path]) = plugins();
    for (stage, words) in [
        (
            "align",
            [
                "gradients through the language model",
                "`fine-llm` does not compute",
            ],
        ),
        (
            "finetune",
            [
                "`finetune` trains the language model, and `fine-llm` cannot",
                "--stage align",
            ],
        ),
    ] {
        let tiny = tiny_with_one_encoder();
        tiny.replace("registry.toml", "id = \"llama\"", "id = \"fine-llm\"");
        tiny.replace(
            "registry.toml",
            "plugin = \"llama2\"",
            "plugin = \"faulty\"",
        );
        let mut wrong = BadRun::new(stage, &tiny);
        wrong.run = wrong.run.arg(&option).arg(&path);
        wrong.folders.push(Arc::clone(&folder));
        wrong.check_refused(&words);
    }
}

#[test]
fn broken_examples_are_refused() {
    let tiny = tiny_with_one_encoder();
    let broken = json!([example(0, &[]), {"id": "1"}, example(2, &[])]);
    let broken = BadRun::new("align", &tiny).with_data(&broken);
    broken.check_refused(&[
        "broken examples: 1 of 3",
        "max_bad_fraction",
        "data.json, example 2",
    ]);
    let gone = json!([example(0, &[]), example(1, &[("video", json!("gone.mp4"))])]);
    let gone = BadRun::new("align", &tiny).with_data(&gone);
    gone.set("max_steps", 2)
        .set("epochs", 2)
        .set("global_batch", 2)
        .check_refused(&[
            "broken examples: 1 of 2",
            "data.json, example 2",
            "gone.mp4",
        ]);
    // Broken examples that are allowed are counted and listed.
    let few = json!([example(0, &[]), example(1, &[("video", json!("gone.mp4"))])]);
    let few = BadRun::new("align", &tiny).with_data(&few);
    let few = few.set("max_bad_fraction", 0.5);
    let text = few.start(true).succeeded().stdout;
    for words in [
        "2 examples (2 videos, 0 images, 0 texts), 0 broken, 1 with a missing file",
        "gone.mp4: no such file or folder",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

#[test]
fn media_without_frames_are_refused() {
    let tiny = tiny_with_one_encoder();
    for (medium, words) in [
        ("empty", "the folder does not contain images"),
        ("empty.mp4", "the file is empty"),
    ] {
        let one = json!([example(0, &[("video", json!(medium))])]);
        let wrong = BadRun::new("align", &tiny).with_data(&one);
        let folder = wrong.folders[0].path();
        fs::create_dir(folder.join("empty")).unwrap();
        fs::write(folder.join("empty.mp4"), "").unwrap();
        let dry = wrong.start(true);
        dry.failed(1, &["broken examples: 1 of 1", medium, words]);
        wrong.start(false).failed(1, &[medium, words]);
    }
}

#[test]
fn examples_truncated_before_the_reply_are_reported() {
    let tiny = tiny_with_one_encoder();
    let long = "What is to be seen there, and what comes after it? ".repeat(4);
    let question =
        |text: &str| json!([{"from": "human", "value": text}, {"from": "gpt", "value": "That."}]);
    let wrong = BadRun::new("finetune", &tiny).set("max_length", 3);
    wrong.check_refused(&[
        "data.json: no example has a reply within `max_length = 3` tokens",
        "raise `max_length`",
    ]);
    let some = json!([
        example(0, &[]),
        example(1, &[("conversations", question(&long))]),
        example(2, &[])
    ]);
    let some = BadRun::new("finetune", &tiny).with_data(&some);
    let some = some.set("max_length", 40);
    let words = "1 of 3 examples have no reply within `max_length = 40` tokens";
    let dry = some.start(true).succeeded();
    assert!(dry.stdout.contains(words), "{dry}");
    let run = some.start(false).succeeded();
    for words in [words, "data.json, example 2"] {
        assert!(run.stderr.contains(words), "{run}");
    }
    // A caption consists only of the reply.
    let caption = BadRun::new("align", &tiny).set("max_length", 3);
    let dry = caption.start(true).succeeded();
    assert!(!dry.stdout.contains("have no reply"), "{dry}");
    let beyond = BadRun::new("finetune", &tiny).set("max_length", 1025);
    beyond.check_refused(&[
        "`max_length = 1025` is more than the context of the language model `llama`",
        "at most 1024",
    ]);
}

#[test]
fn a_system_prompt_that_the_format_does_not_support_is_refused() {
    let tiny = tiny_with_one_encoder();
    let examples = json!([
        example(0, &[]),
        example(1, &[("system", json!("Be kind."))])
    ]);
    let words = [
        "broken examples: 1 of 2",
        "example 2",
        "`pure` does not support",
    ];
    BadRun::new("finetune", &tiny)
        .with_data(&examples)
        .check_refused(&words);
    // Captions are learned without the system prompt.
    BadRun::new("align", &tiny)
        .with_data(&examples)
        .start(true)
        .succeeded();
}

#[test]
fn a_feature_cache_with_other_files_is_refused() {
    let tiny = tiny_with_one_encoder();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "").unwrap();
    let wrong = BadRun::new("align", &tiny).set("feature_cache", folder.path().display());
    wrong.check_refused(&["thesis.txt"]);
}

#[test]
fn a_folder_in_use_is_refused() {
    let tiny = tiny_with_one_encoder();
    let taken = BadRun::new("align", &tiny);
    taken.start(false).succeeded();
    taken.check_refused(&["already contains a run", "--resume"]);
    let nowhere = BadRun::new("align", &tiny);
    let other = nowhere.run.into_folder(Path::new("/proc/run"));
    other
        .arg("--dry-run")
        .finish()
        .failed(1, &["/proc/run", "cannot be written"]);
    let held = BadRun::new("align", &tiny);
    fs::create_dir_all(held.run.out()).unwrap();
    let lock = fs::File::create(held.run.out().join(".lock")).unwrap();
    lock.lock().unwrap();
    held.check_refused(&["is in use by"]);
    let strange = BadRun::new("align", &tiny);
    fs::create_dir_all(strange.run.out()).unwrap();
    fs::write(strange.run.out().join("thesis.txt"), "").unwrap();
    strange.check_refused(&["thesis.txt", "does not belong to a run"]);
    let settings = BadRun::new("align", &tiny);
    fs::create_dir_all(settings.run.out()).unwrap();
    fs::write(settings.run.out().join("config.toml"), "schema = 1").unwrap();
    settings.check_refused(&["config.toml", "does not belong to a run"]);
    // A run that could be resumed, and two that could not.
    let resumed = |run: &TrainingRun| run.run().args(["--resume", "--dry-run"]).finish();
    resumed(&taken.run).succeeded();
    resumed(&taken.run.clone().set("seed", 99)).failed(1, &["other settings", "seed"]);
    let new = BadRun::new("align", &tiny);
    resumed(&new.run).failed(1, &["does not contain a run to resume"]);
}

#[test]
fn a_run_that_learns_nothing_is_reported() {
    let tiny = tiny_with_one_encoder();
    // Upstream's schedule begins with a learning rate of 0.
    let single = BadRun::new("align", &tiny);
    let zero = BadRun::new("align", &tiny)
        .set("max_steps", 2)
        .set("learning_rate", 0);
    for (run, advice) in [(single, "lower `global_batch`"), (zero, "set it above 0")] {
        let plan = run.start(true).succeeded().stdout;
        let finished = run.start(false).succeeded();
        for text in [&plan, &finished.stderr] {
            assert!(text.contains("nothing is learned; do: "), "{text}");
            assert!(text.contains(advice), "{text}");
        }
        assert!(!finished.stderr.contains("1 steps"), "{finished}");
    }
}

#[test]
fn more_workers_than_any_machine_has_are_refused() {
    for wrong in ["0", "4097", "4294967295"] {
        let run = BadRun::new("align", &tiny_with_one_encoder()).set("workers", wrong);
        run.start(false)
            .failed(2, &["workers", "from 1 to 4096", wrong]);
        assert!(!run.run.out().exists());
    }
}

#[test]
fn a_template_is_refused() {
    let tiny = tiny_with_one_encoder();
    fs::write(
        tiny.path("llm/chat_template.jinja"),
        "{{ messages[0].content }}",
    )
    .unwrap();
    tiny.replace(
        "registry.toml",
        "prompt = \"pure\"",
        "prompt = \"template\"",
    );
    BadRun::new("align", &tiny).check_refused(&["the template of", "such as `pure`"]);
}

/// A model that cannot be loaded is refused by `train` and `info` as by `generate`.
#[test]
fn a_model_that_cannot_be_loaded_is_refused() {
    let damaged = |file: &str, change: fn(&Tiny, PathBuf)| {
        let tiny = tiny_with_one_encoder();
        change(&tiny, tiny.path(file));
        tiny
    };
    let cases = [
        (
            "a mixer without a tensor",
            damaged("mixer.safetensors", |_, path| {
                edit(&path, |tensors| {
                    tensors.remove("feature_fusion.Q");
                })
            }),
            ["the mixer", "feature_fusion.Q"],
        ),
        (
            "an encoder without a tensor",
            damaged("siglip/model.safetensors", |_, path| {
                edit(&path, |tensors| {
                    tensors.retain(|name, _| !name.contains("blocks.0.attn.qkv.weight"));
                })
            }),
            ["siglip/model.safetensors", "is missing"],
        ),
        (
            "a language model without a tensor",
            damaged("llm/model.safetensors", |_, path| {
                edit(&path, |tensors| {
                    tensors.remove("model.norm.weight");
                })
            }),
            ["llm/model.safetensors", "model.norm.weight"],
        ),
        (
            "an invalid tokenizer",
            damaged("llm/tokenizer.json", |_, path| {
                fs::write(path, "{}").unwrap()
            }),
            ["tokenizer.json", "tokenizer"],
        ),
        (
            "another digest",
            damaged("registry.toml", |tiny, _| {
                let digest = "0".repeat(64);
                let from = "{ path = \"mixer.safetensors\" }";
                let to = format!("{{ path = \"mixer.safetensors\", sha256 = \"{digest}\" }}");
                tiny.replace("registry.toml", from, &to);
            }),
            ["mixer.safetensors", "sha256"],
        ),
    ];
    let complaints = cases.iter().flat_map(|(case, tiny, words)| {
        let wrong = BadRun::new("align", tiny);
        let info = tiny.run().args(["info", "--load"]).finish();
        let runs = [
            ("generate", tiny.generate().finish()),
            ("info", info),
            ("--dry-run", wrong.start(true)),
            ("train", wrong.start(false)),
        ];
        runs.map(|(what, run)| (format!("{case}, {what}"), run.check_failed(1, words)))
    });
    assert_cases(complaints.collect::<Vec<_>>());
}
