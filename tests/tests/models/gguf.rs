//! GGUF files of language models whose metadata contradict the tensors or are invalid.

use merv_host::plugin::Library;
use merv_plugin_api::LanguageModelRequest;
use merv_tests::{
    artifacts, chain,
    edit_gguf::{after, set},
    fixture, load_llm, model_source,
};
use std::{fs, path::Path};
use tempfile::TempDir;

const K_QUANTS: &str = "llama2/gguf-llama-k-quants/model.gguf";
const MIXED: &str = "llama2/gguf-qwen2-mixed/model.gguf";

/// Types of metadata values, with the numbers of the format.
const U32: u32 = 4;
const F32: u32 = 6;

fn request(path: &Path) -> LanguageModelRequest {
    LanguageModelRequest::new(model_source("llama", path, None))
}

/// Loads the file with `edited` bytes, and checks that the error contains all of `words`.
#[track_caller]
fn refused(what: &str, file: &str, words: &[&str], edit: impl FnOnce(&mut Vec<u8>)) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let mut bytes = fs::read(fixture(file)).unwrap();
    edit(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let library = Library::open(artifacts().library("merv_llama2"), 2).unwrap();
    let Err(error) = load_llm(&library, &request(&path)) else {
        panic!("{what}: loaded");
    };
    let message = chain(&error);
    for word in words.iter().chain(&["model.gguf"]) {
        assert!(
            message.contains(word),
            "{what}: `{word}` is not in: {message}"
        );
    }
}

#[test]
fn sizes_that_are_invalid_or_do_not_match_are_refused() {
    for (key, value, words) in [
        (
            "block_count",
            3,
            &["model.layers.2.self_attn.q_proj.weight", "missing"][..],
        ),
        (
            "block_count",
            1,
            &["model.layers.1.", "not part of the model"],
        ),
        ("block_count", 0, &["num_hidden_layers"]),
        (
            "block_count",
            u32::MAX,
            &["num_hidden_layers", "4294967295"],
        ),
        (
            "embedding_length",
            512,
            &["model.embed_tokens.weight", "[96, 256]", "[96, 512]"],
        ),
        ("embedding_length", 0, &["hidden_size"]),
        ("embedding_length", u32::MAX, &["hidden_size", "4294967295"]),
        (
            "feed_forward_length",
            255,
            &["mlp.down_proj.weight", "[256, 256]", "[256, 255]"],
        ),
        ("attention.head_count", 0, &["num_attention_heads"]),
        ("attention.head_count", 7, &["heads"]),
        ("attention.head_count_kv", 3, &["3 key heads"]),
        (
            "attention.head_count_kv",
            8,
            &["self_attn.k_proj.weight", "[128, 256]"],
        ),
        ("context_length", 0, &["max_position_embeddings"]),
    ] {
        refused(&format!("{key} = {value}"), K_QUANTS, words, |bytes| {
            set(bytes, &format!("llama.{key}"), U32, value.to_le_bytes());
        });
    }
}

#[test]
fn invalid_numbers_are_refused() {
    for (key, value) in [
        ("rope.freq_base", f32::NAN),
        ("rope.freq_base", 0.0),
        ("attention.layer_norm_rms_epsilon", f32::INFINITY),
        ("attention.layer_norm_rms_epsilon", -1.0),
    ] {
        let name = if key.starts_with("rope") {
            "rope_theta"
        } else {
            "rms_norm_eps"
        };
        refused(key, MIXED, &[name, &value.to_string()], |bytes| {
            set(bytes, &format!("qwen2.{key}"), F32, value.to_le_bytes());
        });
    }
}

#[test]
fn other_architectures_types_and_missing_keys_are_refused() {
    refused("architecture", K_QUANTS, &["mamba", "llama"], |bytes| {
        let at = after(bytes, "general.architecture") + 12;
        bytes[at..at + 5].copy_from_slice(b"mamba");
    });
    refused(
        "another family's keys",
        MIXED,
        &["qwen9", "qwen2"],
        |bytes| {
            let at = after(bytes, "general.architecture") + 12;
            bytes[at + 4] = b'9';
        },
    );
    refused(
        "type",
        K_QUANTS,
        &["llama.block_count", "an integer"],
        |bytes| {
            let at = after(bytes, "llama.block_count");
            bytes[at..at + 4].copy_from_slice(&F32.to_le_bytes());
        },
    );
    refused(
        "key",
        K_QUANTS,
        &["llama.block_count", "missing"],
        |bytes| {
            let at = after(bytes, "llama.block_count");
            bytes[at - 1] = b'x';
        },
    );
    refused("tensor", K_QUANTS, &["`blk.0.attn_x.weight`"], |bytes| {
        let at = after(bytes, "blk.0.attn_q.weight");
        bytes[at - 8] = b'x';
    });
}

#[test]
fn bos_and_eos_come_from_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let library = Library::open(artifacts().library("merv_llama2"), 2).unwrap();
    for (bos, eos) in [(1u32, 2u32), (9, 7)] {
        let mut bytes = fs::read(fixture(K_QUANTS)).unwrap();
        set(
            &mut bytes,
            "tokenizer.ggml.bos_token_id",
            U32,
            bos.to_le_bytes(),
        );
        set(
            &mut bytes,
            "tokenizer.ggml.eos_token_id",
            U32,
            eos.to_le_bytes(),
        );
        fs::write(&path, bytes).unwrap();
        let model = load_llm(&library, &request(&path)).unwrap();
        assert_eq!(model.info().bos, Some(bos));
        assert_eq!(model.info().eos.as_slice(), [eos]);
    }
}
