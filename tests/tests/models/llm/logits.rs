//! Embeddings and logits, and how the model's files are read.

use super::{CASES, Case, cases, every_case, numbers, request_of};
use merv_plugin_api::{DType, LogitsAt, TensorView};
use merv_tests::{
    Dtype, LEAST_COSINE, Stored, assert_aligned, assert_close, chain, edit, fixture, load_llm,
    model_library, torch_plugin,
};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

#[test]
fn every_case_is_tested() {
    let mut found: Vec<_> = fs::read_dir(fixture("llama2"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, CASES);
}

#[test]
fn embeddings_and_logits_match_transformers() {
    every_case(|case| {
        let ids = case.io.get("embed_ids").ids();
        let embedded = case.model.embed(&ids).unwrap();
        assert_eq!(
            embedded.view().shape(),
            case.io.get("embedded").shape,
            "{}",
            case.name
        );
        assert_close(
            case.name,
            &embedded.f32s().unwrap(),
            &case.io.get("embedded").values,
        );

        let mut session = case.model.open().unwrap();
        assert!(session.is_empty());
        let logits = case.prefill(&mut session, 0..case.length());
        let what = format!("{}, prefill", case.name);
        assert_close(&what, &logits, &case.io.get("prefill_logits").values);
        assert_eq!(session.len(), case.length());
        case.replay("after prefill", &mut session);
        assert_eq!(
            session.len(),
            case.length() + case.io.get("ids").values.len()
        );
    });
}

#[test]
fn logits_in_bf16_match_transformers_in_f32_up_to_rounding() {
    for name in cases() {
        let mut request = request_of(name);
        request.model.dtype = Some(DType::BF16);
        let case = Case::of(name, request);
        assert_eq!(case.model.info().dtype, DType::BF16, "{name}");
        let mut session = case.model.open().unwrap();
        let logits = case.prefill(&mut session, 0..case.length());
        let expected = case.io.get("prefill_logits");
        assert_aligned(
            name,
            &logits,
            &expected.values,
            expected.shape[1],
            LEAST_COSINE,
        );
    }
}

/// transformers 5 writes `rope_theta` and `rope_scaling` in one object.
#[test]
fn rope_parameters_are_read_like_the_older_keys() {
    for name in cases() {
        let path = fixture("llama2").join(name).join("config.json");
        if !path.is_file() {
            continue;
        }
        let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let keys = config.as_object_mut().unwrap();
        let theta = keys.remove("rope_theta").unwrap();
        let mut rope = keys.remove("rope_scaling").unwrap();
        if rope.is_null() {
            rope = serde_json::json!({ "rope_type": "default" });
        }
        rope["rope_theta"] = theta;
        keys.insert("rope_parameters".to_owned(), rope);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, config.to_string()).unwrap();

        let [new, old] = [Case::with_config(name, &path), Case::load(name)].map(|case| {
            let mut session = case.model.open().unwrap();
            case.prefill(&mut session, 0..case.length())
        });
        assert!(new == old, "{name}: the logits differ");
    }
}

/// MERV's embedding tables have more rows than their configs state; others have fewer.
#[test]
fn the_vocabulary_size_is_that_of_the_embedding_table() {
    let sizes = |case: &Case| {
        let info = case.model.info();
        (info.vocab_size, info.parameters)
    };
    let case = Case::load("qwen2-padded");
    let found = sizes(&case);
    assert_eq!(found.0, 128);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.json");
    let config = fs::read_to_string(fixture("llama2/qwen2-padded/config.json")).unwrap();
    for vocab in [1, 128, 5000] {
        let other = config.replace("\"vocab_size\": 97", &format!("\"vocab_size\": {vocab}"));
        assert_ne!(other, config);
        fs::write(&path, other).unwrap();
        let case = Case::with_config("qwen2-padded", &path);
        assert_eq!(sizes(&case), found, "{vocab}");
        let mut session = case.model.open().unwrap();
        let logits = case.prefill(&mut session, 0..case.length());
        assert_close("padded", &logits, &case.io.get("prefill_logits").values);
    }
}

/// MERV's checkpoints contain the language model among other parts.
#[test]
fn a_language_model_is_found_in_mervs_checkpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    fs::copy(fixture("llama2/mha/model.safetensors"), &path).unwrap();
    edit(&path, |tensors| {
        *tensors = std::mem::take(tensors)
            .into_iter()
            .map(|(name, stored)| (format!("model.llm_backbone.llm.{name}"), stored))
            .collect();
        let other = Stored::zeros(Dtype::F32, &[3]);
        tensors.insert("model.projectors.0.projector.bias".to_owned(), other);
    });
    let config = fixture("llama2/mha/config.json");
    let case = Case::with("mha", &path, Some(&config));
    let mut session = case.model.open().unwrap();
    let logits = case.prefill(&mut session, 0..case.length());
    assert_close("nested", &logits, &case.io.get("prefill_logits").values);
    case.replay("nested", &mut session);
}

/// The plugin that computes with libtorch names what it cannot read, and what to do.
#[test]
fn quantised_weights_are_read_or_refused_with_advice() {
    for name in CASES.into_iter().filter(|name| name.starts_with("gguf-")) {
        let loaded = load_llm(&model_library("llama2"), &request_of(name));
        if torch_plugin().is_none() {
            loaded.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            continue;
        }
        let Err(error) = loaded else {
            panic!("{name}: loaded");
        };
        let message = chain(&error);
        for words in [
            "is quantised (Q",
            "use the plugin that computes with candle",
        ] {
            assert!(message.contains(words), "{name}: {message}");
        }
    }
}

#[test]
fn logits_are_of_the_requested_positions() {
    every_case(|case| {
        let embeds = case.io.get("embeds");
        let view = TensorView::new(&embeds.values, &embeds.shape).unwrap();
        let expected = case.io.get("prefill_logits");

        let mut session = case.model.open().unwrap();
        let last = session.prefill(view, LogitsAt::LAST).unwrap();
        assert_eq!(last.view().shape(), [1, expected.shape[1]], "{}", case.name);
        assert_close(case.name, &numbers(&last), expected.row(case.length() - 1));

        let mut session = case.model.open().unwrap();
        let none = session.prefill(view, LogitsAt::NONE).unwrap();
        assert_eq!(none.view().shape(), [0, expected.shape[1]], "{}", case.name);
        case.replay("after a prefill without logits", &mut session);
    });
}
