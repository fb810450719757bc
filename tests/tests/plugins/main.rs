//! The loading of plugins: good, broken, faulty and older ones. None of them crashes the host.

mod broken_files;
mod choice;
mod collective;
mod devices;
mod faults;
mod fusion;
mod mixers;
mod start;
mod torch;
mod versions;

use merv_host::plugin::{CallError, Encoder, LanguageModel, Library};
use merv_plugin_api::{
    Clips, Device, EncoderRequest, LanguageModelRequest, LogitsAt, ModelSource, TensorView,
};
use merv_tests::{Run, Tiny, artifacts, library_file};
use serde_json::Value;
use std::{path::Path, sync::Arc};

const SIDE: usize = 64;

fn source(id: &str, config: Option<&Path>) -> ModelSource {
    let mut source = ModelSource::new(id, Device::CPU);
    source.config = config.map(Path::to_owned);
    source
}

fn encoder_request(id: &str) -> EncoderRequest {
    EncoderRequest::new(source(id, None), 2)
}

fn llm_request(id: &str) -> LanguageModelRequest {
    LanguageModelRequest::new(source(id, None))
}

/// Describes and loads an encoder of the faulty plugin.
fn load_encoder(id: &str) -> Result<Encoder, CallError> {
    let described = faulty().describe_encoder(&encoder_request(id))?;
    faulty().load_encoder(&encoder_request(id), &described)
}

/// Describes and loads a language model of the faulty plugin.
fn load_llm(id: &str) -> Result<LanguageModel, CallError> {
    let described = faulty().describe_llm(&llm_request(id))?;
    faulty().load_llm(&llm_request(id), &described)
}

fn faulty() -> Arc<Library> {
    Library::open(artifacts().library("test_plugin_faulty"), 1).unwrap()
}

fn encode_zeros(encoder: &Encoder) -> Result<Vec<f32>, CallError> {
    let (clip, shape) = (vec![0.5f32; 2 * 3 * SIDE * SIDE], [1, 2, 3, SIDE, SIDE]);
    let clips = Clips::new(TensorView::new(&clip, &shape).unwrap());
    let features = encoder.encode(&clips)?;
    Ok(features.view().f32s().unwrap().to_vec())
}

/// The most likely tokens after a prompt of `5 6`, and after decoding `7`.
fn answer(model: &LanguageModel) -> Result<[usize; 2], CallError> {
    let embeds = model.embed(&[5, 6])?;
    let mut session = model.open()?;
    let likeliest = |logits: &[f32]| logits.iter().position(|&x| x == 1.0).unwrap();
    let first = session.prefill(embeds.view(), LogitsAt::LAST)?;
    let second = model.decode(&mut [&mut session], &[7])?;
    Ok([first, second].map(|logits| likeliest(logits.view().f32s().unwrap())))
}

/// Checks that the host can still load and run models.
#[track_caller]
fn assert_usable(after: &str) {
    let encoder = load_encoder("fine").unwrap();
    let features = encode_zeros(&encoder).unwrap();
    assert!(features.iter().all(|&x| x == 0.5), "after {after}");
    let model = load_llm("fine-llm").unwrap();
    assert_eq!(answer(&model).unwrap(), [11, 18], "after {after}");
}

/// The entries of SigLIP and Llama in the lively model's registry, which tests replace.
const SIGLIP: &str = "id = \"siglip-vit-b16-224px-all-no-cls\"\nplugin = \"siglip\"";

const LLAMA: &str = "id = \"llama\"\nplugin = \"llama2\"";

/// The row of `libmerv_<name>` in `folder` in the output of `plugins --json`.
fn row(json: &str, folder: &Path, name: &str) -> Value {
    let listing: Value = serde_json::from_str(json).unwrap();
    let path = folder.join(library_file(&format!("merv_{name}")));
    let mut rows = listing["plugins"].as_array().unwrap().iter();
    let found = rows.find(|row| row["path"].as_str().map(Path::new) == Some(&path));
    found
        .unwrap_or_else(|| panic!("{} is not in {json}", path.display()))
        .clone()
}

/// `generate` with the lively model, with SigLIP or Llama replaced by models of the faulty plugin.
fn swapped(plugins: &Path, encoder: Option<&str>, llm: Option<&str>) -> Run {
    let tiny = Tiny::new();
    for (old, new) in [(SIGLIP, encoder), (LLAMA, llm)] {
        if let Some(id) = new {
            tiny.replace(
                "registry.toml",
                old,
                &format!("id = \"{id}\"\nplugin = \"faulty\""),
            );
        }
    }
    tiny.generate().arg("--plugin-dir").arg(plugins)
}
