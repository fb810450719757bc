//! Compares the expected memory of a run with sums computed by hand.

use super::*;
use merv_plugin_api::{Device, PreprocessSpec};
use std::{fs, path::Path};
use tempfile::tempdir;

fn settings(stage: TrainingStage, sets: &[&str]) -> Settings {
    let folder = tempdir().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, "schema = 1\nregistry = \"r\"\ndata = \"d.json\"").unwrap();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Settings::load(&path, stage, &sets).unwrap()
}

/// Two layers of width 10: 12 · 10² parameters each, and the tables of 7 tokens.
fn llm() -> LanguageModelInfo {
    LanguageModelInfo::new(10, 7, 100).cost(2 * 1200 + 2 * 7 * 10, 0, 0)
}

/// Three layers of width 4. A clip has `tokens` tokens in the layers, and 2 · 5 at the output.
fn encoder(tokens: u64) -> EncoderInfo {
    let parameters = 3 * 12 * 4 * 4;
    EncoderInfo::new(4, 2, [2, 5], PreprocessSpec::new(6)).cost(parameters, tokens * parameters)
}

const BATCH: u64 = 3;
const POSITIONS: u64 = BATCH * (20 + 30);
const LOGITS: u64 = POSITIONS * 7 * 2 * 4;

fn activations_of(stage: TrainingStage, checkpointing: bool, encoders: &[&EncoderInfo]) -> u64 {
    let checkpointing = format!("gradient_checkpointing={checkpointing}");
    let settings = settings(stage, &["device_batch=3", "global_batch=3", &checkpointing]);
    activations(&settings, encoders, &llm(), 20, 30)
}

#[test]
fn every_layer_of_the_language_model_keeps_its_activations() {
    let kept = |copies| POSITIONS * 10 * copies * 4 + LOGITS;
    assert_eq!(
        activations_of(TrainingStage::Align, false, &[]),
        kept(2 * LAYER_COPIES)
    );
    assert_eq!(
        activations_of(TrainingStage::Align, true, &[]),
        kept(2 + LAYER_COPIES)
    );
}

#[test]
fn frozen_encoders_need_as_much_as_the_largest() {
    let llm = activations_of(TrainingStage::Align, true, &[]);
    let (few, many) = (encoder(0), encoder(50));
    // One clip at a time, with at least as many tokens as at the output, 2 · 5.
    let of = |tokens: u64| tokens * 4 * LAYER_COPIES * 4;
    assert_eq!(
        activations_of(TrainingStage::Align, true, &[&few]),
        llm + of(10)
    );
    assert_eq!(
        activations_of(TrainingStage::Align, true, &[&few, &many]),
        llm + of(50)
    );
}

#[test]
fn trained_encoders_keep_the_activations_of_every_clip() {
    let stage = TrainingStage::FullFinetune;
    for (checkpointing, copies) in [(false, 3 * LAYER_COPIES), (true, 3 + LAYER_COPIES)] {
        let llm = activations_of(stage, checkpointing, &[]);
        let of = |tokens: u64| BATCH * tokens * 4 * copies * 4;
        let both = activations_of(stage, checkpointing, &[&encoder(50), &encoder(0)]);
        assert_eq!(both, llm + of(50) + of(10));
    }
}

#[test]
fn clips_are_read_ahead_for_each_encoder() {
    let sets = ["device_batch=3", "global_batch=3", "prefetch=4"];
    let settings = settings(TrainingStage::Align, &sets);
    // Four batches are read ahead and one is in use; a clip has 2 frames of 6 · 6 · 3 numbers.
    assert_eq!(
        examples(&settings, &[&encoder(0), &encoder(0)]),
        5 * 3 * 2 * (2 * 6 * 6 * 3 * 4)
    );
}

/// The files were written by ggml's own converter and by safetensors.
#[test]
fn only_quantised_files_are_quantised() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/llama2");
    let model = |files: &[&str]| {
        let mut model = ModelSource::new("llama", Device::CPU);
        model.weights = files.iter().map(|file| folder.join(file)).collect();
        model
    };
    for (files, expected) in [
        (&["gguf-llama-k-quants/model.gguf"][..], true),
        (&["gguf-qwen2-mixed/model.gguf"], true),
        (&["mha/model.safetensors"], false),
        (&[], false),
    ] {
        assert_eq!(is_quantised(&model(files)).unwrap(), expected, "{files:?}");
    }
}
