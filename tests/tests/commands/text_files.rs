//! Text files as various editors and shells save them. A byte-order mark and Windows line ends are accepted; encodings
//! other than UTF-8 are refused with their name.

use merv_tests::{Run, Tiny, assert_cases, fixture};
use std::fs;

const MARK: &str = "\u{feff}";

/// The text files of the lively model.
const FILES: [&str; 4] = [
    "registry.toml",
    "llm/tokenizer.json",
    "llm/config.json",
    "siglip/config.json",
];

fn answer(tiny: &Tiny) -> String {
    tiny.generate().finish().succeeded().stdout
}

fn utf16(text: &str) -> Vec<u8> {
    let units = format!("{MARK}{text}");
    units.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn files_of_a_model_may_have_a_mark() {
    let tiny = Tiny::new();
    let expected = answer(&tiny);
    for file in FILES {
        let path = tiny.path(file);
        let text = fs::read_to_string(&path).unwrap();
        let windows = text.replace("\r\n", "\n").replace('\n', "\r\n");
        fs::write(&path, format!("{MARK}{windows}")).unwrap();
        assert_eq!(answer(&tiny), expected, "{file}");
    }
    let template = "{% for m in messages %}In: {{ m.content }}\nOut:{% endfor %}";
    tiny.replace(
        "registry.toml",
        "prompt = \"pure\"",
        "prompt = { template = \"chat.jinja\" }",
    );
    fs::write(tiny.path("chat.jinja"), template).unwrap();
    let expected = answer(&tiny);
    fs::write(tiny.path("chat.jinja"), format!("{MARK}{template}")).unwrap();
    assert_eq!(answer(&tiny), expected, "the template");
}

#[test]
fn utf_16_is_refused() {
    assert_cases(FILES.map(|file| {
        let tiny = Tiny::new();
        let text = fs::read_to_string(tiny.path(file)).unwrap();
        fs::write(tiny.path(file), utf16(&text)).unwrap();
        let run = tiny.generate().finish();
        (
            file.to_owned(),
            run.check_failed(1, &["UTF-16", "UTF-8", file]),
        )
    }));
    let tiny = Tiny::new();
    tiny.replace(
        "registry.toml",
        "prompt = \"pure\"",
        "prompt = { template = \"chat.jinja\" }",
    );
    fs::write(tiny.path("chat.jinja"), utf16("{{ messages[0].content }}")).unwrap();
    tiny.generate()
        .finish()
        .failed(1, &["chat.jinja", "UTF-16"]);
}

#[test]
fn messages_on_standard_input_may_have_a_mark() {
    let tiny = Tiny::new();
    let chat = |input: &[u8]| {
        let run = tiny
            .run()
            .args(["chat", "--max-new-tokens", "3", "--video"]);
        run.arg(merv_tests::small_clip()).input(input).finish()
    };
    let expected = chat(b"What is it?\nAnd now?\n").succeeded().stdout;
    let marked = chat(format!("{MARK}What is it?\r\nAnd now?\r\n").as_bytes());
    assert_eq!(marked.succeeded().stdout, expected);
    for input in [utf16("What is it?\n"), utf16("What is it?\n")[2..].to_vec()] {
        chat(&input).failed(1, &["standard input is not UTF-8"]);
    }
}

#[test]
fn settings_and_metrics_may_have_a_mark() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture("training_runs/data.json");
    let text = fs::read_to_string(fixture("training_runs/settings.toml")).unwrap();
    let text = text.replace("../lively", fixture("lively").to_str().unwrap());
    let text = text.replace("\"data.json\"", &format!("\"{}\"", data.display()));
    let settings = folder.path().join("settings.toml");
    fs::write(&settings, format!("{MARK}{}", text.replace('\n', "\r\n"))).unwrap();
    let dry = Run::new().args(["train", "--stage", "align", "--dry-run", "--config"]);
    dry.arg(&settings).finish().succeeded();
    fs::write(&settings, utf16(&text)).unwrap();
    let dry = Run::new().args(["train", "--stage", "align", "--dry-run", "--config"]);
    dry.arg(&settings)
        .finish()
        .failed(1, &["settings.toml", "UTF-16"]);

    let line = |step: u32| {
        format!(r#"{{"step": {step}, "epoch": 1, "loss": 1.5, "learning_rate": 1e-3, "gradient_norm": 1.0,
            "tokens": 5, "tokens_per_second": 5.0, "examples": 1, "seconds": 1.0, "mixer_weights": {{}}}}"#)
        .replace('\n', "")
    };
    let metrics = folder.path().join("metrics.jsonl");
    fs::write(&metrics, format!("{MARK}{}\r\n{}\r\n", line(1), line(2))).unwrap();
    let plot = Run::new().arg("plot").arg(folder.path()).arg("--out");
    plot.arg(folder.path().join("a.svg")).finish().succeeded();
}
