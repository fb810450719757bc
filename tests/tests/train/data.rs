//! The tokens, labels and batches of examples, against upstream's rules in PyTorch (`make_training_runs.py`).

use merv_host::{
    prompt::{PromptFormat, VisualMarks},
    tokenizer::TextTokenizer,
    train::{
        Task,
        data::{Batching, Example, ExampleTokenizer, Index},
    },
};
use merv_tests::{fixture, root};
use serde_json::Value;
use std::{fs, sync::Arc};

fn json(file: &str) -> Value {
    let text = fs::read_to_string(fixture(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn batches_have_the_order_of_the_reference_curves() {
    let order = json("training_runs/order.json");
    for (name, task) in [("align", Task::Caption), ("finetune", Task::Conversation)] {
        let index = Index::read(&fixture("training_runs/data.json"), task).unwrap();
        let batching = Batching {
            size: 3,
            group_by_length: task == Task::Conversation,
            seed: 7,
        };
        let batches = (0..5).flat_map(|epoch| batching.epoch(index.entries(), epoch));
        let batches: Vec<Vec<u32>> = batches.collect();
        assert_eq!(serde_json::json!(batches), order[name], "{name}");
    }
}

#[test]
fn tokens_and_labels_match_upstream() {
    let expected = json("training_runs/expected.json");
    let tokenizer = TextTokenizer::load(&root().join("tests/fixtures/lively/llm/tokenizer.json"));
    let tokenizer = Arc::new(tokenizer.unwrap());
    let cut = expected["cut"].as_u64().unwrap() as usize;
    for (name, task, max_length) in [
        ("align", Task::Caption, 512),
        ("finetune", Task::Conversation, 512),
        ("cut", Task::Conversation, cut),
    ] {
        let form = ExampleTokenizer {
            tokenizer: Arc::clone(&tokenizer),
            format: PromptFormat::Pure,
            marks: VisualMarks::default(),
            system: None,
            task,
            max_length,
        };
        let index = Index::read(&fixture("training_runs/data.json"), task).unwrap();
        let mut shortened = 0;
        for (number, entry) in index.entries().iter().enumerate() {
            let example = index.example(entry).unwrap();
            let tokens = form.tokens(&example).unwrap();
            let expected = &expected["tokens"][name][number];
            let case = format!("{name}, `{}`", example.id);
            assert_eq!(serde_json::json!(tokens.ids), expected["ids"], "{case}");
            assert_eq!(
                serde_json::json!(tokens.labels),
                expected["labels"],
                "{case}"
            );
            shortened += usize::from(tokens.ids.len() == cut);
        }
        assert_eq!(shortened > 2, name == "cut", "{name}");
    }
}

#[test]
fn training_and_generation_write_conversations_alike() {
    // `make_prompts.py` gives the ids of whole conversations. Their last turn is a question without a reply.
    let cases: Vec<Value> = serde_json::from_value(json("prompts/formats.json")).unwrap();
    let mut long = 0;
    for case in cases {
        let messages: Vec<String> = serde_json::from_value(case["messages"].clone()).unwrap();
        let whole: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let turns = &messages[..messages.len() - 1];
        if turns.is_empty() {
            continue;
        }
        let example = Example {
            id: String::new(),
            visual: None,
            system: None,
            turns: turns.to_vec(),
            has_empty_medium: false,
        };
        let family = case["tokenizer"].as_str().unwrap();
        let file = fixture("tokenizers").join(family).join("tokenizer.gguf");
        let form = ExampleTokenizer {
            tokenizer: Arc::new(TextTokenizer::load(&file).unwrap()),
            format: case["format"].as_str().unwrap().parse().unwrap(),
            marks: VisualMarks::default(),
            system: case["system"].as_str().map(str::to_owned),
            task: Task::Conversation,
            max_length: 10_000,
        };
        let ids = form.tokens(&example).unwrap().ids;
        assert_eq!(ids, whole[..ids.len()], "{}: {turns:?}", case["format"]);
        long += usize::from(turns.len() > 2);
    }
    assert!(long >= 10);
}
