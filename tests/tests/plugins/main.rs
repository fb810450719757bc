//! The loading of plugins: good, broken, faulty and older ones. None of them crashes the host.

mod broken_files;
mod evolution;
mod faults;
mod start;

use merv_host::plugin::{CallError, Encoder, LanguageModel, Library};
use merv_plugin_api::{
    Device, EncoderRequest, LanguageModelRequest, LogitsAt, ModelSource, TensorView,
};
use merv_tests::{Run, Tiny, artifacts, library_file};
use serde_json::Value;
use std::{path::Path, sync::Arc};

const SIDE: usize = 64;

fn source(id: &str, config: Option<&Path>) -> ModelSource {
    ModelSource {
        id: id.into(),
        weights: vec![].into(),
        config: config.map(|path| path.display().to_string().into()).into(),
        device: Device::CPU,
        dtype: None.into(),
    }
}

fn encoder_request(id: &str) -> EncoderRequest {
    EncoderRequest {
        model: source(id, None),
        num_frames: 2,
        image_size: None.into(),
    }
}

fn llm_request(id: &str) -> LanguageModelRequest {
    LanguageModelRequest {
        model: source(id, None),
    }
}

fn faulty() -> Arc<Library> {
    Library::open(artifacts().library("test_plugin_faulty"), 1).unwrap()
}

fn encode_zeros(encoder: &Encoder) -> Result<Vec<f32>, CallError> {
    let (clip, shape) = (vec![0.5; 2 * 3 * SIDE * SIDE], [1, 2, 3, SIDE, SIDE]);
    let features = encoder.encode(TensorView::new(&clip, &shape).unwrap())?;
    Ok(features.view().f32s().unwrap().to_vec())
}

/// The most likely tokens after a prompt of `5 6`, and after decoding `7`.
fn answer(model: &LanguageModel) -> Result<[usize; 2], CallError> {
    let embeds = model.embed(&[5, 6])?;
    let mut session = model.open()?;
    let likeliest = |logits: &[f32]| logits.iter().position(|&x| x == 1.0).unwrap();
    let first = session.prefill(embeds.view(), LogitsAt::Last)?;
    let second = model.decode(&mut [&mut session], &[7])?;
    Ok([first, second].map(|logits| likeliest(logits.view().f32s().unwrap())))
}

/// Checks that the host can still load and run models.
#[track_caller]
fn assert_usable(after: &str) {
    let encoder = faulty().load_encoder(&encoder_request("fine")).unwrap();
    let features = encode_zeros(&encoder).unwrap();
    assert!(features.iter().all(|&x| x == 0.5), "after {after}");
    let model = faulty().load_llm(&llm_request("fine-llm")).unwrap();
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
