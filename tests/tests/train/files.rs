//! Files of training data: all accepted forms, and mistakes that are refused.

use merv_tests::{Finished, Run, Tiny, assert_cases, fixture, root, small_clip};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A folder with a clip, for a file of examples and a run.
struct Data {
    folder: TempDir,
}

impl Data {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::copy(small_clip(), folder.path().join("a.mp4")).unwrap();
        Self { folder }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// `merv-host train` for one step of `stage` on `bytes`, written to a file with this name.
    fn train(&self, stage: &str, file: &str, bytes: &[u8]) -> Finished {
        self.train_with(stage, file, bytes, &[])
    }

    fn train_with(&self, stage: &str, file: &str, bytes: &[u8], more: &[&str]) -> Finished {
        let path = self.path(file);
        fs::write(&path, bytes).unwrap();
        let out = self.path("run");
        let _ = fs::remove_dir_all(&out);
        let set = format!("data={}", path.display());
        Run::new()
            .args(["--threads", "2", "train", "--config"])
            .arg(fixture("training_runs/settings.toml"))
            .args(["--stage", stage, "--set", &set, "--set", "max_steps=1"])
            .args(["--set", "global_batch=2", "--set", "device_batch=2"])
            .args(more)
            .arg("--out")
            .arg(out)
            .finish()
    }

    /// The loss of the step.
    fn loss(&self) -> f64 {
        let text = fs::read_to_string(self.path("run/metrics.jsonl")).unwrap();
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["loss"].as_f64().unwrap()
    }

    fn tokens(&self) -> u64 {
        let text = fs::read_to_string(self.path("run/metrics.jsonl")).unwrap();
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["tokens"].as_u64().unwrap()
    }
}

/// An example in LLaVA's format.
fn llava(media: &str) -> String {
    format!(
        r#"{{"id": "1", {media} "conversations": [{{"from": "human", "value": "<video>\nWhat happens?"}},
        {{"from": "gpt", "value": "A dog runs."}}]}}"#
    )
}

#[test]
fn a_wrong_media_key_is_refused() {
    let data = Data::new();
    let right = format!("[{}]", llava(r#""video": "a.mp4","#));
    data.train("finetune", "d.json", right.as_bytes())
        .succeeded();
    let (loss, tokens) = (data.loss(), data.tokens());
    // Variants with a clear meaning are accepted.
    for media in [
        r#""videos": ["a.mp4"],"#,
        r#""video": ["a.mp4"], "images": [],"#,
    ] {
        let file = format!("[{}]", llava(media));
        data.train("finetune", "d.json", file.as_bytes())
            .succeeded();
        assert_eq!((data.loss(), data.tokens()), (loss, tokens), "{media}");
    }
    // Others are refused.
    let cases = [
        ("", "but the example has neither `image` nor `video`"),
        (r#""Video": "a.mp4","#, "unknown key `Video`: write `video`"),
        (r#""video_path": "a.mp4","#, "unknown key `video_path`"),
        (r#""img": "a.png","#, "unknown key `img`: write `image`"),
        (r#""video": "","#, "`video` is empty"),
        (
            r#""img": {"path": "a.png"},"#,
            "unknown key `img`: write `image`",
        ),
        (
            r#""videos": ["a.mp4", "a.mp4"],"#,
            "lists 2 files; expected one",
        ),
        (
            r#""video": "a.mp4", "image": "a.png","#,
            "both `video` and `image`",
        ),
        (r#""image": "a.png","#, "but the example has an image"),
        (r#""vidoe": "a.mp4","#, "unknown key `vidoe`: write `video`"),
        (
            r#""path": "a.mp4","#,
            "unknown key `path`: write `image` or `video`",
        ),
        (r#""mp4": "a.mp4","#, "unknown key `mp4`: write `video`"),
        (
            r#""videos": null,"#,
            "neither `image` nor `video` with a file",
        ),
        (
            r#""video": "a.mp4", "System": "Be kind.","#,
            "unknown key `System`: write `system`",
        ),
    ];
    assert_cases(cases.map(|(media, word)| {
        let file = format!("[{}]", llava(media));
        let run = data.train("finetune", "d.json", file.as_bytes());
        let result = run.check_failed(1, &["d.json, example 1: ", word]);
        let result = result.and_then(|()| match data.path("run").exists() {
            true => Err("a run was started".to_owned()),
            false => Ok(()),
        });
        (media.to_owned(), result)
    }));
}

#[test]
fn mistakes_in_messages_are_refused() {
    let data = Data::new();
    let user = r#"{"from": "human", "value": "What?"}"#;
    let cases = [
        (r#""vidoe": "a.mp4","#, user, "That.", "unknown key `vidoe`"),
        (r#""url": "x/a.mp4","#, user, "That.", "unknown key `url`"),
        (
            "",
            user,
            "A <video>.",
            "message 2, a reply, contains `<video>`",
        ),
        (
            "",
            r#"{"from": "human", "role": "user", "value": "What?"}"#,
            "That.",
            "message 1 has both `from` and `role`",
        ),
        (
            "",
            r#"{"from": "human", "value": "What?", "content": "Why?"}"#,
            "That.",
            "message 1 has both `value` and `content`",
        ),
    ];
    let example = |keys: &str, user: &str, reply: &str| {
        format!(r#"[{{{keys} "conversations": [{user}, {{"from": "gpt", "value": "{reply}"}}]}}]"#)
    };
    assert_cases(cases.map(|(keys, user, reply, word)| {
        let run = data.train("finetune", "d.json", example(keys, user, reply).as_bytes());
        (
            word.to_owned(),
            run.check_failed(1, &["d.json, example 1: ", word]),
        )
    }));
    // `null`, which tables contain for rows without media, is accepted and reported.
    let empty = example(r#""videos": null,"#, user, "That.");
    let run = data
        .train("finetune", "d.json", empty.as_bytes())
        .succeeded();
    let word = "d.json: 1 of 1 examples have `null` or an empty list";
    assert!(run.stderr.contains(word), "{run}");
}

#[test]
fn every_form_of_a_file_gives_the_same_training() {
    let data = Data::new();
    let example = llava(r#""video": "a.mp4","#);
    let text =
        r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho."}]}"#;
    let line = example.replace('\n', "");
    let openai = json!({"id": 1, "video": "a.mp4", "messages": [
        {"role": "user", "content": "<video>\nWhat happens?"},
        {"role": "assistant", "content": "A dog runs."}]});
    let list = format!("[{example}, {text}]");
    data.train("finetune", "d.json", list.as_bytes())
        .succeeded();
    let expected = (data.loss(), data.tokens());
    for (file, content) in [
        ("d.jsonl", format!("{line}\n{text}\n")),
        ("d.json", format!("{line}\r\n\r\n{text}")),
        ("mark.jsonl", format!("\u{feff}{line}\n{text}\n")),
        ("mark.json", format!("\u{feff}{list}\r\n")),
        ("openai.jsonl", format!("{openai}\n{text}\n")),
    ] {
        data.train("finetune", file, content.as_bytes()).succeeded();
        assert_eq!((data.loss(), data.tokens()), expected, "{file}");
    }
}

#[test]
fn a_system_turn_is_used_if_the_format_supports_it() {
    let data = Data::new();
    let with = |system: &str| {
        let system = match system {
            "" => String::new(),
            text => format!(r#"{{"role": "system", "content": "{text}"}}, "#),
        };
        format!(
            r#"[{{"messages": [{system}{{"role": "user", "content": "Hi"}}, {{"role": "assistant", "content": "Ho."}}]}}]"#
        )
    };
    let run = data.train("finetune", "d.json", with("Be kind.").as_bytes());
    let words = [
        "d.json, example 1",
        "the chat format `pure` does not support",
        "no example can be trained on",
    ];
    run.failed(1, &words);
    data.train("finetune", "d.json", with("").as_bytes())
        .succeeded();
    let without = data.tokens();

    // The same model with a format that supports it.
    let tiny = Tiny::new();
    let prompt = "prompt = \"vicuna\"\nsystem_prompt = \"\"";
    tiny.replace("registry.toml", "prompt = \"pure\"", prompt);
    let named = tiny.registry().display().to_string();
    let more = ["--registry", named.as_str()];
    data.train_with("finetune", "d.json", with("").as_bytes(), &more)
        .succeeded();
    let plain = data.tokens();
    data.train_with("finetune", "d.json", with("Be kind.").as_bytes(), &more)
        .succeeded();
    assert!(
        data.tokens() > plain,
        "{} tokens, {plain} and {without} without",
        data.tokens()
    );
}

#[test]
fn a_mistake_is_reported_with_its_position() {
    let data = Data::new();
    let good = llava(r#""video": "a.mp4","#);
    let more = ["--set", "max_bad_fraction=0.9"];
    let list = format!("[{good},\n{good},\n{{\"id\": 3, \"video\" 5}}]");
    let run = data
        .train_with("finetune", "list.json", list.as_bytes(), &more)
        .succeeded();
    let word = "list.json, example 3 is skipped: expected `:`, line 5, column 19";
    assert!(run.stderr.contains(word), "{run}");
    let line = good.replace('\n', "");
    let lines = format!("{line}\n\n{{\"id\": 3, \"video\" 5}}\n{line}\n");
    let run = data
        .train_with("finetune", "lines.jsonl", lines.as_bytes(), &more)
        .succeeded();
    let word = "lines.jsonl, line 3 is skipped: expected `:`, column 19";
    assert!(run.stderr.contains(word), "{run}");
    // A missing video is reported with the example that uses it.
    let gone = good
        .replace("a.mp4", "gone.mp4")
        .replace(r#""1""#, r#""seven""#);
    let list = format!("[{{}}, {gone}, {good}]");
    let run = data
        .train_with("finetune", "gone.json", list.as_bytes(), &more)
        .succeeded();
    for word in [
        "gone.json, example 1 is skipped",
        "gone.json, example 2 (`seven`) is skipped",
    ] {
        assert!(run.stderr.contains(word), "{run}");
    }
}

#[test]
fn mistakes_in_held_out_examples_are_reported() {
    let data = Data::new();
    let good = llava(r#""video": "a.mp4","#);
    let held_out = data.path("held.json");
    fs::write(
        &held_out,
        format!("[{good}, {}]", llava(r#""vid": "a.mp4","#)),
    )
    .unwrap();
    let set = format!("validation={}", held_out.display());
    let list = format!("[{good}]");
    let run = data.train_with("align", "d.json", list.as_bytes(), &["--set", &set]);
    let word = "held.json, example 2 is skipped: unknown key `vid`: write `video`";
    let run = run.succeeded();
    assert!(run.stderr.contains(word), "{run}");
}

#[test]
fn long_values_are_shortened_in_messages() {
    let data = Data::new();
    let long = "ä".repeat(1 << 20);
    let cases = [
        format!(r#"[{{"video": {{"{long}": 1}}, "conversations": []}}]"#),
        format!(r#"[{{"messages": [{{"role": "{long}", "content": ""}}]}}]"#),
        format!(r#"[{{"conversations": "{long}"}}]"#),
        format!(r#"[{{"Video{long}": "a", "conversations": 3}}]"#),
        format!(r#"{{"messages": [{{"role": "user", "content": {{"{long}": 1}}}}]}}"#),
    ];
    assert_cases(cases.map(|content| {
        let run = data.train("finetune", "long.json", content.as_bytes());
        let length = run.stderr.chars().count();
        let result = run
            .check_failed(1, &["long.json"])
            .and_then(|()| match length {
                0..2500 => Ok(()),
                _ => Err(format!("the message has {length} characters")),
            });
        let case: String = content.chars().take(40).collect();
        (
            case,
            result.map_err(|text| text.chars().take(300).collect()),
        )
    }));
}

#[test]
fn other_encodings_are_refused_with_their_name() {
    let data = Data::new();
    let text = format!("[{}]", llava(r#""video": "a.mp4","#));
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [b"\xff\xfe", utf16.as_slice()].concat();
    for bytes in [utf16, marked] {
        let run = data.train("finetune", "wide.json", &bytes);
        run.failed(1, &["wide.json", "UTF-16", "UTF-8"]);
        let run = Run::new()
            .args(["encode", "--data"])
            .arg(data.path("wide.json"));
        let run = run.arg("--out").arg(data.path("features"));
        run.finish().failed(1, &["wide.json", "UTF-16"]);
    }
}

#[test]
fn encode_accepts_the_same_files() {
    let data = Data::new();
    let example = llava(r#""videos": ["a.mp4"],"#).replace('\n', "");
    let registry = root().join("tests/fixtures/lively/registry.toml");
    for (file, content) in [
        ("d.jsonl", format!("{example}\n{{}}\n")),
        ("d.json", format!("\u{feff}[{example}]\r\n")),
    ] {
        fs::write(data.path(file), content).unwrap();
        let run = Run::new().arg("--registry").arg(&registry);
        let run = run
            .args(["encode", "--json", "--data"])
            .arg(data.path(file));
        let run = run
            .arg("--out")
            .arg(data.path("features"))
            .finish()
            .succeeded();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(report["clips"], 1, "{run}");
        let reported = run
            .stderr
            .contains("d.jsonl, line 2 is skipped: `conversations`");
        assert_eq!(reported, file == "d.jsonl", "{run}");
    }
}

/// Unless `media` is set, the media of each file are beside it.
#[test]
fn held_out_examples_may_be_in_another_folder() {
    let (data, other) = (Data::new(), TempDir::new().unwrap());
    fs::copy(small_clip(), other.path().join("b.mp4")).unwrap();
    let held_out = other.path().join("held.json");
    fs::write(&held_out, format!("[{}]", llava(r#""video": "b.mp4","#))).unwrap();
    let list = format!("[{}]", llava(r#""video": "a.mp4","#));
    let validation = format!("validation={}", held_out.display());
    let train = |more: &[&str]| {
        let more = [&["--set", &validation], more].concat();
        let run = data.train_with("align", "d.json", list.as_bytes(), &more);
        let text = fs::read_to_string(data.path("run/metrics.jsonl")).unwrap();
        let step: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        (run.succeeded().stderr, step["validation_loss"].clone())
    };
    let (stderr, loss) = train(&[]);
    assert!(loss.is_number(), "{loss}: {stderr}");
    let elsewhere = Data::new();
    let media = format!("media={}", elsewhere.folder.path().display());
    let (stderr, loss) = train(&["--set", &media]);
    assert!(loss.is_null(), "{loss}");
    assert!(
        stderr.contains("1 held-out examples") && stderr.contains("held.json"),
        "{stderr}"
    );
}
