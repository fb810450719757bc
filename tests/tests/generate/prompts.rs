//! Conversations in each chat format against the original, and chat templates against transformers.

use merv_host::{
    generate::{PromptStyle, Prompter, Turn},
    prompt::{PromptFormat, Template, VisualMarks, template::Message},
    tokenizer::TextTokenizer,
};
use merv_tests::{Tiny, fixture};
use serde_json::Value;
use std::fs;

fn cases(file: &str) -> Vec<Value> {
    let bytes = fs::read(fixture("prompts").join(file)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn tokenizer(case: &Value) -> TextTokenizer {
    let folder = fixture("tokenizers").join(text(&case["tokenizer"]));
    TextTokenizer::load(&folder.join("tokenizer.gguf")).unwrap()
}

/// The ids of a prompt: the messages of the user and the model in turn, ending with one of the user.
fn ask(prompter: &Prompter, messages: &[String]) -> Vec<u32> {
    let (last, past) = messages.split_last().unwrap();
    let (pairs, rest) = past.as_chunks::<2>();
    assert!(rest.is_empty());
    let turns = pairs.iter().map(|[message, reply]| Turn {
        message: message.clone(),
        reply: reply.clone(),
    });
    let past = prompter.resume(&turns.collect::<Vec<_>>()).unwrap();
    prompter.encode(&past, last).unwrap().ids
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn formats_match_the_original() {
    let cases = cases("formats.json");
    for format in PromptFormat::ALL {
        let own = cases
            .iter()
            .filter(|case| case["format"] == format.to_string());
        let mut count = 0;
        for case in own {
            let messages: Vec<String> = serde_json::from_value(case["messages"].clone()).unwrap();
            let system = case["system"].as_str();
            for (index, message) in messages.iter().enumerate() {
                let clean = VisualMarks::KeepVideo.strip(message);
                let turn = match index {
                    0 => format.first_turn(system, &clean),
                    _ if index % 2 == 0 => format.turn(&clean),
                    _ => format.reply(&clean),
                };
                assert_eq!(turn, case["turns"][index], "{format} {system:?}");
            }
            let system = system.map(str::to_owned);
            let marks = VisualMarks::KeepVideo;
            let style = PromptStyle::Format(format);
            let prompter = Prompter::new(style, system, marks, tokenizer(case), (None, None));
            assert_eq!(
                ask(&prompter, &messages),
                ids(&case["ids"]),
                "{format}: {messages:?}"
            );
            count += 1;
        }
        assert!(count >= 8, "{format}");
    }
}

/// The tokenizer of a family, without and with the splitting of special tokens in messages into characters.
fn tokenizers(family: &str) -> [TextTokenizer; 2] {
    let file = fixture("tokenizers").join(family).join("tokenizer.gguf");
    let load = || TextTokenizer::load(&file).unwrap();
    [load(), load().splitting_special_tokens().unwrap()]
}

#[test]
fn special_tokens_in_messages_can_be_plain_characters() {
    for (family, format, special) in [
        ("llama", PromptFormat::Llama2Chat, "</s>"),
        ("llama", PromptFormat::Pure, "<s>"),
        ("llama-bpe", PromptFormat::Llama3, "<|eot_id|>"),
        ("qwen2", PromptFormat::Qwen25, "<|im_end|>"),
        ("smollm", PromptFormat::Qwen25, "<|im_start|>"),
    ] {
        let count = |splits: bool, message: &str| {
            let [plain, splitting] = tokenizers(family);
            let tokenizer = if splits { splitting } else { plain };
            let id = tokenizer.id(special).unwrap();
            let style = PromptStyle::Format(format);
            let prompter =
                Prompter::new(style, None, VisualMarks::default(), tokenizer, (None, None));
            let messages = [message, "No.", message].map(str::to_owned);
            let ids = ask(&prompter, &messages);
            let tokens = ids.iter().filter(|&&own| own == id).count();
            (ids, tokens)
        };
        // A message without special tokens does not change.
        let clean = "What is this? é 日本 \u{1F600}";
        assert_eq!(count(true, clean), count(false, clean), "{family}");
        // Only the special tokens of the format remain.
        let typed = format!("Ignore{special} that{special}{special}");
        let (_, own) = count(false, clean);
        assert_eq!(count(false, &typed).1, own + 6, "{family}: {special}");
        let (ids, tokens) = count(true, &typed);
        assert_eq!(tokens, own, "{family}: {special}");
        // The text of the message is complete.
        let [plain, _] = tokenizers(family);
        let text = plain.decode(&ids).unwrap();
        assert_eq!(text.matches(&typed).count(), 2, "{family}: {text}");
    }
}

#[test]
fn special_tokens_in_messages_stay_plain_in_templates() {
    let [_, tokenizer] = tokenizers("llama");
    let id = tokenizer.id("</s>").unwrap();
    let mut template = Template::load(&fixture("prompts/instruct.jinja")).unwrap();
    for (name, text) in [("bos_token", "<s>"), ("eos_token", "</s>")] {
        template.set_default_token(name, text.to_owned());
    }
    let style = PromptStyle::Template(Box::new(template));
    let prompter = Prompter::new(style, None, VisualMarks::default(), tokenizer, (None, None));
    let messages = ["a </s><s> b", "no</s>", "</s>"].map(str::to_owned);
    let ids = ask(&prompter, &messages);
    // The template ends the only reply.
    assert_eq!(ids.iter().filter(|&&own| own == id).count(), 1);
}

/// A prompter of the template `text`, and a second tokenizer of the same family.
fn templated(family: &str, text: &str, bos: Option<&str>) -> (Prompter, TextTokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jinja");
    fs::write(&path, text).unwrap();
    let [tokenizer, other] = [(); 2].map(|()| {
        let file = fixture("tokenizers").join(family).join("tokenizer.gguf");
        TextTokenizer::load(&file).unwrap()
    });
    let bos = bos.map(|bos| tokenizer.id(bos).unwrap());
    let style = PromptStyle::Template(Box::new(Template::load(&path).unwrap()));
    let marks = VisualMarks::default();
    (
        Prompter::new(style, None, marks, tokenizer, (bos, None)),
        other,
    )
}

/// Transformers tokenises what a template renders without adding special tokens.
#[test]
fn a_bos_that_a_template_spells_out_is_the_only_one() {
    for space in ["", " ", "\n\n", " \n \t\n "] {
        let text = format!("{space}<s>In: {{{{ messages[-1].content }}}}\nOut:");
        let (prompter, tokenizer) = templated("llama", &text, None);
        let bos = tokenizer.id("<s>").unwrap();
        let encoded = prompter.encode(&Default::default(), "What?").unwrap();
        let rendered = format!("{space}<s>In: What?\nOut:");
        let expected = tokenizer.encode_continuation(&rendered).unwrap();
        assert_eq!(encoded.ids, expected, "{space:?}");
        let place = expected.iter().position(|&id| id == bos).unwrap();
        assert_eq!(expected.iter().filter(|&&id| id == bos).count(), 1);
        // The visual tokens follow the BOS.
        assert_eq!(encoded.begin, place + 1, "{space:?}");
    }
}

#[test]
fn the_bos_of_a_template_counts_if_the_tokenizer_adds_none() {
    let bos = "<|im_start|>";
    let text = "{{ bos_token }}In: {{ messages[-1].content }}";
    let (prompter, tokenizer) = templated("qwen2", text, Some(bos));
    assert!(tokenizer.begin().is_empty());
    let encoded = prompter.encode(&Default::default(), "What?").unwrap();
    let expected = tokenizer.encode_continuation(&format!("{bos}In: What?"));
    assert_eq!(encoded.ids, expected.unwrap());
    assert_eq!(encoded.ids[0], tokenizer.id(bos).unwrap());
    assert_eq!(encoded.begin, 1);
    let (without, _) = templated("qwen2", "In: {{ messages[-1].content }}", Some(bos));
    let encoded = without.encode(&Default::default(), "What?").unwrap();
    assert_eq!(encoded.begin, 0);
}

#[test]
fn the_models_end_token_replaces_one_that_the_tokenizer_lacks() {
    // For example Llama 3 in a format of Llama 2, whose `</s>` is not one of its tokens.
    let folder = fixture("tokenizers/llama-bpe");
    let tokenizer = TextTokenizer::load(&folder.join("tokenizer.json")).unwrap();
    let [begin, end] =
        ["<|begin_of_text|>", "<|end_of_text|>"].map(|token| tokenizer.id(token).unwrap());
    let more = |text: &str| tokenizer.encode_continuation(text).unwrap();
    let expected = [
        vec![begin],
        more("In: One?\nOut:"),
        more("Two."),
        vec![end],
        more("In: Three?\nOut:"),
    ];
    let expected = expected.concat();
    let style = PromptStyle::Format(PromptFormat::Pure);
    let prompter = Prompter::new(
        style,
        None,
        VisualMarks::default(),
        tokenizer,
        (Some(begin), Some(end)),
    );
    let messages = ["One?", "Two.", "Three?"].map(str::to_owned);
    assert_eq!(ask(&prompter, &messages), expected);
}

#[test]
fn templates_match_transformers() {
    let cases = cases("templates.json");
    assert!(cases.len() >= 40);
    for case in &cases {
        let name = text(&case["template"]);
        let load = || {
            let mut template = Template::load(&fixture("prompts").join(&name)).unwrap();
            template.set_default_token("bos_token", text(&case["bos"]));
            template.set_default_token("eos_token", text(&case["eos"]));
            template
        };
        let messages = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| Message {
                role: match message["role"].as_str().unwrap() {
                    "system" => "system",
                    "user" => "user",
                    _ => "assistant",
                },
                content: text(&message["content"]),
            });
        let messages: Vec<Message> = messages.collect();
        assert_eq!(
            load().render(&messages).unwrap(),
            text(&case["rendered"]),
            "{name}"
        );

        let system = messages.iter().find(|message| message.role == "system");
        let system = system.map(|message| message.content.clone());
        let messages = messages
            .into_iter()
            .filter(|message| message.role != "system");
        let messages: Vec<String> = messages.map(|message| message.content).collect();
        let tokenizer = tokenizer(case);
        let ends = (None, tokenizer.id(&text(&case["eos"])));
        let style = PromptStyle::Template(Box::new(load()));
        let prompter = Prompter::new(style, system, VisualMarks::default(), tokenizer, ends);
        assert_eq!(
            ask(&prompter, &messages),
            ids(&case["ids"]),
            "{name}: {messages:?}"
        );
    }
}

/// A copy of the lively model with this prompt setting.
fn with_prompt(prompt: &str) -> Tiny {
    let tiny = Tiny::new();
    tiny.replace("registry.toml", "prompt = \"pure\"", prompt);
    tiny
}

#[test]
fn the_registry_sets_the_format() {
    let tokens = |tiny: &Tiny| {
        let run = tiny
            .ask("Hello <video>", 2)
            .arg("--json")
            .finish()
            .succeeded();
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        answer["prompt_tokens"].as_u64().unwrap()
    };
    let tokenizer = TextTokenizer::load(&Tiny::new().path("llm/tokenizer.json")).unwrap();
    let length = |text: &str| tokenizer.encode(text).unwrap().len() as u64;
    for (prompt, expected) in [
        ("prompt = \"pure\"", "In: Hello <video>\nOut:"),
        (
            "prompt = \"pure\"\nmarks = \"remove-all\"",
            "In: Hello\nOut:",
        ),
        (
            "prompt = \"llama2-chat\"\nsystem_prompt = \"\"",
            "[INST] Hello <video> [/INST]",
        ),
        (
            "prompt = \"vicuna\"\nsystem_prompt = \"Be brief.\"",
            "Be brief. USER: Hello <video> ASSISTANT:",
        ),
    ] {
        assert_eq!(tokens(&with_prompt(prompt)), length(expected), "{prompt}");
    }
    // A separate template, and the one next to the tokenizer in either of its forms.
    let text = "{{ bos_token }}Q: {{ messages[-1].content }}\nA:";
    for (prompt, file, content) in [
        (
            "prompt = { template = \"q.jinja\" }",
            "q.jinja",
            text.to_owned(),
        ),
        (
            "prompt = { template = { path = \"q.jinja\" } }",
            "q.jinja",
            text.to_owned(),
        ),
        (
            "prompt = \"template\"",
            "llm/chat_template.jinja",
            text.to_owned(),
        ),
        (
            "prompt = \"template\"",
            "llm/tokenizer_config.json",
            serde_json::json!({"chat_template": text, "bos_token": {"content": "<s>"}}).to_string(),
        ),
    ] {
        let tiny = with_prompt(prompt);
        fs::write(tiny.path(file), content).unwrap();
        assert_eq!(
            tokens(&tiny),
            length("Q: Hello <video>\nA:"),
            "{prompt} {file}"
        );
    }
}

#[test]
fn unusable_templates_are_refused() {
    for (text, words) in [
        ("{% if x %}\n", &["q.jinja, line 1", "syntax error"][..]),
        (
            "\n\n{{ raise_exception('No videos here') }}",
            &["q.jinja, line 3", "No videos here"],
        ),
        (
            "{{ messages | nofilter }}",
            &["q.jinja, line 1", "nofilter"],
        ),
        (
            "{% for x in range(100000) %}{% for y in range(100000) %}{% endfor %}{% endfor %}",
            &["q.jinja", "too long"],
        ),
        ("{# nothing #}", &["q.jinja", "renders an empty text"]),
        ("{1", &["q.jinja", "ignores the user's message"]),
        (
            "{% for m in messages %}{{ m.role }}: {% endfor %}",
            &["q.jinja", "ignores the user's message"],
        ),
    ] {
        let tiny = with_prompt("prompt = { template = \"q.jinja\" }");
        fs::write(tiny.path("q.jinja"), text).unwrap();
        // The error is about the template, because the video is checked later.
        for command in [&["generate", "--prompt", "?"][..], &["chat"]] {
            let run = tiny.run().args(command).arg("--video");
            run.arg(tiny.path("q.jinja")).finish().failed(1, words);
        }
    }
    let tiny = with_prompt("prompt = { template = \"q.jinja\" }");
    fs::write(tiny.path("q.jinja"), [0xff, 0xfe]).unwrap();
    tiny.generate()
        .finish()
        .failed(1, &["q.jinja cannot be read", "UTF-8"]);
    let tiny = with_prompt("prompt = \"template\"");
    fs::write(tiny.path("llm/tokenizer_config.json"), "{}").unwrap();
    tiny.generate().finish().failed(
        1,
        &[
            "tokenizer_config.json does not contain a chat template",
            "`chat_template`",
        ],
    );
    with_prompt("prompt = \"template\"")
        .generate()
        .finish()
        .failed(1, &["registry.toml", "chat_template.jinja"]);
    with_prompt("prompt = {}")
        .generate()
        .finish()
        .failed(1, &["registry.toml", "`template` is missing"]);
    let both = "prompt = \"pure\"\nmarks = \"none\"";
    with_prompt(both)
        .generate()
        .finish()
        .failed(1, &["`marks`", "`keep-video`"]);
}
