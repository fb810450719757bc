//! Several turns about one clip, through the real plugins.

use merv_host::{
    Chat, GenerateOptions, LoadOptions, VidLm, VideoOptions, generate,
    generate::Turn,
    plugin::{LanguageModel, Library},
};
use merv_plugin_api::{LanguageModelRequest, LogitsAt, TensorView};
use merv_tests::{
    Run, Tiny, artifacts, assert_close, load_llm, model_source, read, root, small_clip,
};
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;

const TOKENS: usize = 12;

fn options() -> GenerateOptions {
    GenerateOptions {
        limits: generate::ReplyLimits {
            max_new_tokens: TOKENS,
            min_length: 1,
            min_new_tokens: 0,
        },
        ..GenerateOptions::default()
    }
}

fn load(registry: &Path) -> VidLm {
    let options = LoadOptions {
        plugin_folders: vec![artifacts().host.parent().unwrap().to_owned()],
        ..LoadOptions::default()
    };
    VidLm::load_with(registry, &options, &mut ()).unwrap_or_else(|error| panic!("{error}"))
}

fn say(chat: &mut Chat<'_>, message: &str) -> merv_host::Reply {
    chat.say(message, &options(), &mut ()).unwrap()
}

fn language_model() -> LanguageModel {
    let path = |file: &str| root().join("tests/fixtures/lively/llm").join(file);
    let (weights, config) = (path("model.safetensors"), path("config.json"));
    let request = LanguageModelRequest::new(model_source("llama", &weights, Some(&config)));
    let library = Library::open(artifacts().library("merv_llama2"), 2).unwrap();
    load_llm(&library, &request).unwrap()
}

#[test]
fn each_turn_equals_the_whole_conversation_at_once() {
    let model = load(&root().join("tests/fixtures/lively/registry.toml"));
    let visual = model
        .see(small_clip(), &VideoOptions::default(), &mut ())
        .unwrap();
    let mut chat = model.chat(&visual);
    let folder = TempDir::new().unwrap();
    let llm = language_model();
    let width = llm.info().width as usize;
    let mut before = Vec::new();
    for (turn, message) in ["What is happening?", "Why?", "<image> And then?"]
        .iter()
        .enumerate()
    {
        let dump = folder.path().join(format!("{turn}.safetensors"));
        let options = GenerateOptions {
            dump: Some(dump.clone()),
            ..options()
        };
        let reply = chat.say(message, &options, &mut ()).unwrap();
        let dump = read(&dump);
        let ids = dump.get("prompt_ids").ids();
        assert!(
            ids.starts_with(&before),
            "the ids of a turn extend those of the turns before"
        );
        assert_eq!(
            ids.iter().filter(|&&id| id == 1).count(),
            1,
            "one BOS: {ids:?}"
        );
        assert_eq!(reply.prompt_tokens, ids.len());

        // The same in one prefill: BOS, the clip and the whole text.
        let mut session = llm.open().unwrap();
        let text = llm.embed(&ids).unwrap();
        let (bos, rest) = text.view().f32s().unwrap().split_at(width);
        let embeds = [bos, &dump.get("fused").values, rest].concat();
        let shape = [embeds.len() / width, width];
        let mut logits = session
            .prefill(TensorView::new(&embeds, &shape).unwrap(), LogitsAt::LAST)
            .unwrap();
        let first = logits.view().f32s().unwrap().to_vec();
        assert_close("logits", &dump.get("logits").values, &first);
        for &token in &reply.tokens {
            let logits_now = logits.view().f32s().unwrap();
            let best =
                (0..logits_now.len()).max_by(|&a, &b| logits_now[a].total_cmp(&logits_now[b]));
            assert_eq!(best.unwrap() as u32, token, "turn {turn}");
            logits = llm.decode(&mut [&mut session], &[token]).unwrap();
        }
        assert_eq!(reply.tokens.len(), TOKENS);
        before = [ids, reply.tokens].concat();
    }
    assert_eq!(chat.turns().len(), 3);
    assert_eq!(chat.turns()[2].message, "<image> And then?");
}

#[test]
fn a_single_answer_equals_a_first_turn_and_reset_starts_over() {
    let model = load(&root().join("tests/fixtures/lively/registry.toml"));
    let visual = model
        .see(small_clip(), &VideoOptions::default(), &mut ())
        .unwrap();
    let answer = model.answer(&visual, "Who?", &options(), &mut ()).unwrap();
    let mut chat = model.chat(&visual);
    let first = say(&mut chat, "Who?");
    assert_eq!(first.tokens, answer.tokens);
    assert_ne!(
        say(&mut chat, "Who?").tokens,
        first.tokens,
        "the second turn depends on the first"
    );
    chat.reset();
    assert_eq!(say(&mut chat, "Who?").tokens, first.tokens);

    // A message that does not fit does not change the conversation.
    let second = say(&mut chat, "Where?");
    chat.reset();
    say(&mut chat, "Who?");
    let error = chat
        .say(&"why? ".repeat(2000), &options(), &mut ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the conversation is full") && error.contains("at most 512"),
        "{error}"
    );
    assert_eq!(say(&mut chat, "Where?").tokens, second.tokens);
}

#[test]
fn a_template_may_rewrite_earlier_turns() {
    // This template keeps only the last reply, and starts with the number of turns.
    let tiny = Tiny::new();
    tiny.replace(
        "registry.toml",
        "prompt = \"pure\"",
        "prompt = { template = \"t.jinja\" }",
    );
    let template = "{{ bos_token }}{{ messages | length }} turns. {% for m in messages[-3:] %}{{ m.role }}: \
                    {{ m.content }}{{ eos_token if m.role == 'assistant' }}\n{% endfor %}A:";
    fs::write(tiny.path("t.jinja"), template).unwrap();
    let model = load(&tiny.registry());
    let visual = model
        .see(small_clip(), &VideoOptions::default(), &mut ())
        .unwrap();
    let mut chat = model.chat(&visual);
    let mut past: Vec<Turn> = Vec::new();
    for message in ["What is happening?", "Why?", "And then?", "Who?"] {
        let reply = say(&mut chat, message);
        let mut other = model.chat(&visual);
        other.resume(&past).unwrap();
        let at_once = say(&mut other, message);
        assert_eq!(reply.prompt_tokens, at_once.prompt_tokens, "{message}");
        assert_eq!(reply.tokens, at_once.tokens, "{message}");
        past = chat.turns().to_vec();
    }
}

/// `merv-host chat` with these messages, and replies of `tokens` tokens.
fn chat_with(tokens: &str, run: Run, messages: &[u8]) -> Run {
    let run = run.arg("chat").arg("--video").arg(small_clip());
    run.args(["--max-new-tokens", tokens]).input(messages)
}

fn chat(run: Run, messages: &[u8]) -> Run {
    chat_with("4", run, messages)
}

#[test]
fn messages_come_from_standard_input() {
    let plain = chat(
        Tiny::new().run(),
        b"What is happening?\n\n  Why?  \n/reset\nWhat is happening?\n/quit\nNever read\n",
    );
    let plain = plain.finish().succeeded();
    let replies: Vec<&str> = plain.stdout.lines().collect();
    assert_eq!(replies.len(), 3, "{plain}");
    assert_eq!(replies[0], replies[2]);

    let run = chat(Tiny::new().run(), b"What is happening?\nWhy?")
        .arg("--json")
        .finish()
        .succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let turns = report["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 2);
    for (turn, reply) in turns.iter().zip(&replies) {
        assert_eq!(turn["text"].as_str().unwrap(), *reply);
        assert_eq!(turn["stop"], "max-new-tokens");
        assert!(turn["timings"]["prefill"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(turns[1]["prompt"], "Why?");
    assert_eq!(report["visual_tokens"], 256);
    assert!(report["timings"]["encode"].as_f64().unwrap() > 0.0);
    assert_eq!(report["mixer_weights"].as_object().unwrap().len(), 4);

    let nothing = chat(Tiny::new().run(), b"")
        .arg("--json")
        .finish()
        .succeeded();
    assert!(nothing.stdout.contains("\"turns\": []"), "{nothing}");
}

#[test]
fn messages_that_cannot_be_answered_are_refused() {
    let full = b"What is happening?\n".repeat(40);
    let run = chat(Tiny::new().run(), &full).finish();
    assert_eq!(run.code, Some(1), "{run}");
    for word in [
        "the conversation is full",
        "expected: at most 512",
        "/reset",
    ] {
        assert!(run.stderr.contains(word), "{run}");
    }
    // Earlier answers are not lost.
    let run = chat(Tiny::new().run(), &full).arg("--json").finish();
    assert_eq!(run.code, Some(1), "{run}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(report["turns"].as_array().unwrap().len() > 1, "{run}");
    let tiny = Tiny::new();
    let (long, short) = (
        "\"max_position_embeddings\": 1024",
        "\"max_position_embeddings\": 274",
    );
    tiny.replace("llm/config.json", long, short);
    let run = chat_with("100", tiny.run(), b"What is this?\nWhy?\n").finish();
    assert_eq!(run.code, Some(1), "{run}");
    for word in ["context is full", "context of 274", "/reset"] {
        assert!(run.stderr.contains(word), "{run}");
    }
    chat(Tiny::new().run(), b"\xff\n")
        .finish()
        .failed(1, &["standard input", "UTF-8"]);
    let long = "x".repeat(1 << 20);
    chat(Tiny::new().run(), long.as_bytes())
        .finish()
        .failed(1, &["standard input", "too long"]);
    chat(Tiny::new().run(), b"Hi\n")
        .args(["--top-p", "2"])
        .finish()
        .failed(2, &["top-p"]);
}
