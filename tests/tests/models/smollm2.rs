//! SmolLM2-135M-Instruct as a quantised GGUF file, against llama.cpp. `make parity-llm` downloads the file and runs these
//! tests.

use merv_host::{
    plugin::{LanguageModel, Library, Session},
    prompt::{Template, template::Message},
    tokenizer::TextTokenizer,
};
use merv_plugin_api::{LanguageModelRequest, LogitsAt, TensorView};
use merv_tests::{artifacts, chain, fixture, load_llm, model_source};
use serde_json::Value;
use std::{env, fs, path::Path, time::Instant};

/// The error of llama.cpp's logits, because it rounds activations to 8 bits before each product. If its two best logits
/// are closer than that, either token is accepted.
const NEAR_TIE: f64 = 0.25;

fn load(path: &str, threads: usize) -> LanguageModel {
    let request = LanguageModelRequest::new(model_source("llama", Path::new(path), None));
    let library = Library::open(artifacts().library("merv_llama2"), threads).unwrap();
    load_llm(&library, &request).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn prefill(model: &LanguageModel, session: &mut Session<'_>, ids: &[u32]) -> Vec<f32> {
    let embeds = model.embed(ids).unwrap();
    let logits = session.prefill(embeds.view(), LogitsAt::LAST).unwrap();
    logits.view().f32s().unwrap().to_vec()
}

fn decode(model: &LanguageModel, session: &mut Session<'_>, id: u32) -> Vec<f32> {
    let logits = model.decode(&mut [session], &[id]).unwrap();
    logits.view().f32s().unwrap().to_vec()
}

fn best(logits: &[f32]) -> u32 {
    let ids = 0..logits.len() as u32;
    ids.max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]))
        .unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
#[ignore = "needs a model of 98 MB: make parity-llm"]
fn greedy_tokens_match_llama_cpp() {
    let path = env::var("MERV_SMOLLM2").expect("MERV_SMOLLM2 names the GGUF file");
    let model = load(&path, 2);
    let cases = fs::read(fixture("smollm2/greedy.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 5);
    for case in cases {
        let prompt = &case["prompt"];
        let expected = ids(&case["tokens"]);
        let mut session = model.open().unwrap();
        let mut logits = prefill(&model, &mut session, &ids(&case["ids"]));
        let mut agreed = 0;
        for (&token, margin) in expected.iter().zip(case["margins"].as_array().unwrap()) {
            let found = best(&logits);
            if found != token {
                let theirs = margin.as_f64().unwrap();
                let ours = logits[found as usize] - logits[token as usize];
                println!(
                    "{prompt}: token {agreed} is {found}, in llama.cpp {token}. Logits differ by {ours} here, by {theirs} there"
                );
                assert!(
                    theirs < NEAR_TIE && f64::from(ours) < NEAR_TIE,
                    "the two tokens are not a near tie"
                );
                break;
            }
            agreed += 1;
            logits = decode(&model, &mut session, token);
        }
        println!(
            "{prompt}: {agreed} of {} tokens match llama.cpp",
            expected.len()
        );
    }
}

/// The tokenizer and the chat template in the file match llama.cpp's.
#[test]
#[ignore = "needs a model of 98 MB: make parity-llm"]
fn tokenizer_and_template_match_llama_cpp() {
    let path = env::var("MERV_SMOLLM2").expect("MERV_SMOLLM2 names the GGUF file");
    let tokenizer = TextTokenizer::load(path.as_ref()).unwrap();
    assert!(tokenizer.begin().is_empty());
    let cases = fs::read(fixture("smollm2/greedy.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    for case in cases.as_array().unwrap() {
        let message = case["prompt"].as_str().unwrap();
        let text = format!("<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n");
        assert_eq!(
            tokenizer.encode(&text).unwrap(),
            ids(&case["ids"]),
            "{message}"
        );
        let reply = tokenizer.decode(&ids(&case["tokens"])).unwrap();
        assert_eq!(reply.trim(), case["text"].as_str().unwrap().trim());
    }
    let template = Template::load(path.as_ref()).unwrap();
    let message = Message {
        role: "user",
        content: "Hi".to_owned(),
    };
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(template.render(&[message]).unwrap(), expected);
}

/// Prints tokens per second, to compare with `llama-bench -p 512 -n 64 -t 2`.
#[test]
#[ignore = "needs a model of 98 MB: make parity-llm"]
fn speed() {
    let path = env::var("MERV_SMOLLM2").expect("MERV_SMOLLM2 names the GGUF file");
    let model = load(&path, 2);
    let width = model.info().width as usize;
    let ids: Vec<u32> = (0..512).map(|i| 1000 + 7 * i).collect();
    for _ in 0..3 {
        let mut session = model.open().unwrap();
        let embeds = model.embed(&ids).unwrap();
        let started = Instant::now();
        let shape = [ids.len(), width];
        let view = TensorView::new(embeds.view().f32s().unwrap(), &shape).unwrap();
        session.prefill(view, LogitsAt::LAST).unwrap();
        let prefill = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for &id in &ids[..64] {
            model.decode(&mut [&mut session], &[id]).unwrap();
        }
        let decode = started.elapsed().as_secs_f64();
        println!(
            "prefill {:.0} tokens/s, decode at 512 {:.1} tokens/s",
            ids.len() as f64 / prefill,
            64.0 / decode
        );
    }
}
