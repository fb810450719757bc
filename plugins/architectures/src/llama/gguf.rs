//! Llama and Qwen2 in GGUF files: the sizes in the metadata and the names of the tensors, as written by
//! `convert_hf_to_gguf.py` with `gguf-py/gguf/constants.py` of `ggml-org/llama.cpp`.

#[cfg(test)]
mod tests;

use super::config::{Architecture, Config, OneOrMany, RopePairs, RopeScaling, Sizes};
use crate::{
    PluginError, Result,
    checkpoint::{Checkpoint, CheckpointError, FromGguf, GgufMetadata},
    config::require,
    weights,
};
use std::{fs::File, io::Read, path::Path};

/// Returns whether the file at `path` begins like a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && &magic == b"GGUF"
}

/// Reads the sizes of the model.
///
/// # Errors
///
/// When the file is damaged, a size is missing from its metadata, or its architecture is not supported.
pub fn config(path: &Path) -> Result<Config> {
    let checkpoint = weights::open(&[path.to_path_buf()], |name| Some(name.to_owned()))?;
    let metadata = checkpoint
        .gguf()
        .ok_or_else(|| PluginError::weights(format!("{} is not a GGUF file", path.display())))?;
    let architecture: &str = metadata.require("general.architecture").map_err(refused)?;
    let (model_type, rope_pairs) = match architecture {
        "llama" => (Architecture::Llama, RopePairs::Interleaved),
        "qwen2" => (Architecture::Qwen2, RopePairs::Halves),
        other => {
            return Err(PluginError::unsupported(format!(
                "{}: expected the architecture `llama` or `qwen2`, found `{other}`",
                path.display()
            )));
        }
    };
    let keys = Keys {
        metadata,
        architecture,
    };
    let heads = keys.require("attention.head_count")?;
    let config = Config {
        model_type,
        rope_pairs,
        head_dim: keys.find("attention.key_length")?,
        max_position_embeddings: keys.require("context_length")?,
        rms_norm_eps: keys.require("attention.layer_norm_rms_epsilon")?,
        rope_theta: keys.find("rope.freq_base")?.unwrap_or(10_000.0),
        rope_scaling: rope_scaling(&keys)?,
        tie_word_embeddings: checkpoint.get("output.weight").is_none(),
        attention_bias: checkpoint.get("blk.0.attn_output.bias").is_some(),
        mlp_bias: checkpoint.get("blk.0.ffn_up.bias").is_some(),
        bos_token_id: bos(metadata)?,
        eos_token_id: Some(OneOrMany::Many(eos(metadata)?)),
        ..Config::new(Sizes {
            hidden: keys.require("embedding_length")?,
            intermediate: keys.require("feed_forward_length")?,
            layers: keys.require("block_count")?,
            heads,
            kv_heads: keys.find("attention.head_count_kv")?.unwrap_or(heads),
            vocab: vocabulary(&checkpoint, &keys)?,
        })
    };
    let in_file = |message| format!("{}: {message}", path.display());
    let experts: usize = keys.find("expert_count")?.unwrap_or(0);
    require(experts == 0, || {
        in_file(format!(
            "expected one MLP per layer, found {experts} experts"
        ))
    })?;
    if let Some(width) = keys.find::<usize>("attention.value_length")? {
        require(width == config.head_dim(), || {
            in_file(format!(
                "expected values and keys of the same width, found {width} and {}",
                config.head_dim()
            ))
        })?;
    }
    if let Some(rotated) = keys.find::<usize>("rope.dimension_count")? {
        require(rotated == config.head_dim(), || {
            in_file(format!(
                "expected a rotary embedding of whole heads, found {rotated} of {} coordinates",
                config.head_dim()
            ))
        })?;
    }
    Ok(config)
}

/// Returns Hugging Face's name of the tensor `name` of a GGUF file, or `name` itself if it is unknown.
pub fn hugging_face_name(name: &str) -> String {
    let top = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(top) = top {
        return top.to_owned();
    }
    let parts = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(index, rest)| Some((index, rest.rsplit_once('.')?)));
    let Some((index, (layer, kind))) = parts else {
        return name.to_owned();
    };
    let layer = match layer {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return name.to_owned(),
    };
    format!("model.layers.{index}.{layer}.{kind}")
}

/// The metadata keys of one architecture: `llama.block_count` and so on.
struct Keys<'a> {
    metadata: &'a GgufMetadata,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    fn find<T: FromGguf<'a>>(&self, key: &str) -> Result<Option<T>> {
        let key = format!("{}.{key}", self.architecture);
        self.metadata.find(&key).map_err(refused)
    }

    fn require<T: FromGguf<'a>>(&self, key: &str) -> Result<T> {
        let key = format!("{}.{key}", self.architecture);
        self.metadata.require(&key).map_err(refused)
    }
}

fn refused(error: CheckpointError) -> PluginError {
    PluginError::weights(error.to_string())
}

/// Returns the number of rows of the embedding table. Older files have no key for it.
fn vocabulary(checkpoint: &Checkpoint, keys: &Keys<'_>) -> Result<usize> {
    match checkpoint
        .get("token_embd.weight")
        .map(|table| table.shape.as_slice())
    {
        Some(&[rows, _]) => Ok(rows),
        _ => keys.require("vocab_size"),
    }
}

fn rope_scaling(keys: &Keys<'_>) -> Result<Option<RopeScaling>> {
    let kind: Option<&str> = keys.find("rope.scaling.type")?;
    let factor: Option<f64> = match keys.find("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        // The older name of the key.
        None => keys.find("rope.scale_linear")?,
    };
    Ok(match (kind, factor) {
        (Some("none"), _) | (None, None) => None,
        (kind, factor) => Some(RopeScaling::by_factor(
            kind.unwrap_or("linear"),
            factor.unwrap_or(1.0),
        )),
    })
}

/// Returns the token that begins a text, unless the file says that none is added.
fn bos(metadata: &GgufMetadata) -> Result<Option<u32>> {
    let added: Option<bool> = metadata
        .find("tokenizer.ggml.add_bos_token")
        .map_err(refused)?;
    if added == Some(false) {
        return Ok(None);
    }
    metadata
        .find("tokenizer.ggml.bos_token_id")
        .map_err(refused)
}

/// Returns the tokens that end a reply: the ends of text, of turn and of message.
fn eos(metadata: &GgufMetadata) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        let id: Option<u32> = metadata
            .find(&format!("tokenizer.ggml.{key}"))
            .map_err(refused)?;
        ids.extend(id.filter(|id| !ids.contains(id)));
    }
    Ok(ids)
}
