//! The language model against transformers' Llama and Qwen2.

mod logits;
mod sessions;

use merv_host::plugin::{LanguageModel, Session};
use merv_plugin_api::{LanguageModelRequest, LogitsAt, TensorBuf, TensorView};
use merv_tests::{
    Tensors, assert_close, chain, fixture, load_llm, model_library, model_source, read,
    torch_plugin,
};
use std::path::Path;

const CASES: [&str; 7] = [
    "gguf-llama-k-quants",
    "gguf-qwen2-mixed",
    "gqa-tied-llama3-rope",
    "linear-rope",
    "mha",
    "qwen2-padded",
    "qwen2-tied",
];

struct Case {
    name: &'static str,
    model: LanguageModel,
    io: Tensors,
}

impl Case {
    fn load(name: &'static str) -> Self {
        Self::of(name, request_of(name))
    }

    fn with_config(name: &'static str, config: &Path) -> Self {
        let weights = fixture("llama2").join(name).join("model.safetensors");
        Self::with(name, &weights, Some(config))
    }

    fn with(name: &'static str, weights: &Path, config: Option<&Path>) -> Self {
        Self::of(name, request(weights, config))
    }

    fn of(name: &'static str, request: LanguageModelRequest) -> Self {
        let library = model_library("llama2");
        let model = load_llm(&library, &request)
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let described = library.describe_llm(&request).unwrap();
        // The padding of the vocabulary is known only when the weights are opened.
        if described.vocab_size == model.info().vocab_size {
            assert_eq!(&described, model.info(), "{name}");
        }
        Self {
            name,
            model,
            io: read(&fixture("llama2").join(name).join("io.safetensors")),
        }
    }

    fn width(&self) -> usize {
        self.model.info().width as usize
    }

    /// The number of positions of the fixture's text.
    fn length(&self) -> usize {
        self.io.get("embeds").shape[0]
    }

    /// Prefills the positions `range` of the fixture's text, and returns the logits.
    fn prefill(&self, session: &mut Session<'_>, range: std::ops::Range<usize>) -> Vec<f32> {
        let width = self.width();
        let embeds = &self.io.get("embeds").values[range.start * width..range.end * width];
        let shape = [range.len(), width];
        let view = TensorView::new(embeds, &shape).unwrap();
        numbers(&session.prefill(view, LogitsAt::ALL).unwrap())
    }

    fn session_of(&self, length: usize) -> Session<'_> {
        let mut session = self.model.open().unwrap();
        self.prefill(&mut session, 0..length);
        session
    }

    /// Decodes the fixture's tokens, and checks the logits.
    fn replay(&self, what: &str, session: &mut Session<'_>) {
        let expected = self.io.get("decode_logits");
        for (step, id) in self.io.get("ids").ids().into_iter().enumerate() {
            let logits = numbers(&self.model.decode(&mut [&mut *session], &[id]).unwrap());
            let what = format!("{}, {what}, step {step}", self.name);
            assert_close(&what, &logits, expected.row(step));
        }
    }

    /// The logits of decoding `ids` after `length` positions, in a session without others.
    fn alone(&self, length: usize, ids: &[u32]) -> Vec<Vec<f32>> {
        let mut session = self.session_of(length);
        ids.iter()
            .map(|&id| numbers(&self.model.decode(&mut [&mut session], &[id]).unwrap()))
            .collect()
    }
}

fn request_of(name: &str) -> LanguageModelRequest {
    let folder = fixture("llama2").join(name);
    let [gguf, weights, config] =
        ["model.gguf", "model.safetensors", "config.json"].map(|file| folder.join(file));
    if gguf.is_file() {
        request(&gguf, None)
    } else {
        request(&weights, Some(&config))
    }
}

fn request(weights: &Path, config: Option<&Path>) -> LanguageModelRequest {
    LanguageModelRequest::new(model_source("llama", weights, config))
}

fn numbers(tensor: &TensorBuf) -> Vec<f32> {
    tensor.view().f32s().unwrap().to_vec()
}

/// The cases whose weights the plugin under test reads: libtorch does not compute with quantised ones.
fn cases() -> impl Iterator<Item = &'static str> {
    let quantised = |name: &&str| name.starts_with("gguf-");
    let all = CASES.into_iter();
    all.filter(move |name| torch_plugin().is_none() || !quantised(name))
}

fn every_case(check: impl Fn(&Case)) {
    cases().for_each(|name| check(&Case::load(name)));
}
