//! Metadata keys of the GGUF specification, in files of one tensor.

use super::*;
use std::{fs, process};

/// Types of metadata values, with the numbers of the format.
const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(name)[..], &kind.to_le_bytes(), value].concat()
}

fn u32s(name: &str, value: u32) -> Vec<u8> {
    key(&format!("llama.{name}"), U32, &value.to_le_bytes())
}

fn f32s(name: &str, value: f32) -> Vec<u8> {
    key(&format!("llama.{name}"), F32, &value.to_le_bytes())
}

fn texts(name: &str, value: &str) -> Vec<u8> {
    key(name, STRING, &string(value))
}

/// Reads the sizes of a model with four heads of width 16, and these keys in addition.
fn config_with(more: &[Vec<u8>]) -> Result<Config> {
    let keys = [
        texts("general.architecture", "llama"),
        u32s("embedding_length", 64),
        u32s("feed_forward_length", 96),
        u32s("block_count", 2),
        u32s("attention.head_count", 4),
        u32s("context_length", 128),
        f32s("attention.layer_norm_rms_epsilon", 1e-5),
    ];
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(((keys.len() + more.len()) as u64).to_le_bytes());
    bytes.extend(keys.concat());
    bytes.extend(more.concat());
    bytes.extend(string("token_embd.weight"));
    bytes.extend(2u32.to_le_bytes());
    bytes.extend([64u64, 3].map(u64::to_le_bytes).concat());
    // The type F32 and the offset.
    bytes.extend([0; 4 + 8]);
    bytes.resize(bytes.len().next_multiple_of(32) + 64 * 3 * 4, 0);
    let thread = format!("{:?}", std::thread::current().id());
    let file = format!("llama2-gguf-{}-{thread}.gguf", process::id());
    let path = std::env::temp_dir().join(file);
    fs::write(&path, bytes).unwrap();
    let config = config(&path);
    fs::remove_file(path).unwrap();
    config
}

#[test]
fn the_rotary_embedding_is_scaled_as_the_keys_say() {
    let scaling = |more: &[Vec<u8>]| config_with(more).unwrap().rope_scaling;
    let linear = |factor| Some(RopeScaling::by_factor("linear", factor));
    let kind = |kind| texts("llama.rope.scaling.type", kind);
    assert_eq!(scaling(&[]), None);
    assert_eq!(scaling(&[kind("none")]), None);
    assert_eq!(
        scaling(&[kind("none"), f32s("rope.scaling.factor", 4.0)]),
        None
    );
    assert_eq!(
        scaling(&[kind("linear"), f32s("rope.scaling.factor", 4.0)]),
        linear(4.0)
    );
    assert_eq!(scaling(&[kind("linear")]), linear(1.0));
    // Without a kind, and with the older name of the key.
    assert_eq!(scaling(&[f32s("rope.scaling.factor", 4.0)]), linear(4.0));
    assert_eq!(scaling(&[f32s("rope.scale_linear", 8.0)]), linear(8.0));
    assert_eq!(
        scaling(&[kind("yarn"), f32s("rope.scaling.factor", 2.0)]),
        Some(RopeScaling::by_factor("yarn", 2.0))
    );
}

#[test]
fn only_heads_that_are_rotated_as_a_whole_are_accepted() {
    let read = |more: &[Vec<u8>]| config_with(more);
    assert_eq!(read(&[]).unwrap().head_dim(), 16);
    for key in ["attention.value_length", "rope.dimension_count"] {
        assert_eq!(read(&[u32s(key, 16)]).unwrap().head_dim(), 16, "{key}");
        let error = read(&[u32s(key, 8)]).err().unwrap().to_string();
        assert!(error.contains("found 8"), "{key}: {error}");
    }
    let longer = [
        u32s("attention.key_length", 32),
        u32s("attention.value_length", 32),
        u32s("rope.dimension_count", 32),
    ];
    assert_eq!(read(&longer).unwrap().head_dim(), 32);
    assert_eq!(read(&[u32s("expert_count", 0)]).unwrap().head_dim(), 16);
    let error = read(&[u32s("expert_count", 8)]).err().unwrap().to_string();
    assert!(error.contains("found 8 experts"), "{error}");
}
