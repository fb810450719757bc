//! The sizes of the models in MERV's `merv/models/backbones/llm`, for weights without a config: those in
//! MERV's own checkpoint.

use super::config::{Architecture, Config, OneOrMany, RopeScaling, Sizes};

/// Returns the config of MERV's model `id`. The ids are those of `LLM_BACKBONES` in
/// `merv/models/materialize.py`.
///
/// The tables of Llama-2, Vicuna and Llama-3 are padded to a multiple of 64 to make room for MERV's `<PAD>`.
pub fn published(id: &str) -> Option<Config> {
    Some(match id {
        "llama2-7b-pure" | "llama2-7b-chat" | "vicuna-v15-7b" => llama2(4096, 11_008, 32, 32),
        "llama2-13b-pure" | "llama2-13b-chat" | "vicuna-v15-13b" => llama2(5120, 13_824, 40, 40),
        "llama3-8b-pure" => Config {
            eos_token_id: Some(OneOrMany::One(128_001)),
            ..llama3(128_320, 8192)
        },
        "llama3-8b-chat" => Config {
            eos_token_id: Some(OneOrMany::Many(vec![128_001, 128_009])),
            ..llama3(128_320, 8192)
        },
        "llama3.1-8b-chat" => Config {
            eos_token_id: Some(OneOrMany::Many(vec![128_001, 128_008, 128_009])),
            rope_scaling: Some(RopeScaling::llama3(8.0, 1.0, 4.0, 8192)),
            ..llama3(128_256, 131_072)
        },
        "qwen2.5-3b-instruct" => Config {
            tie_word_embeddings: true,
            ..qwen2(Sizes {
                hidden: 2048,
                intermediate: 11_008,
                layers: 36,
                heads: 16,
                kv_heads: 2,
                vocab: 151_936,
            })
        },
        "qwen2.5-7b-instruct" => qwen2(Sizes {
            hidden: 3584,
            intermediate: 18_944,
            layers: 28,
            heads: 28,
            kv_heads: 4,
            vocab: 152_064,
        }),
        _ => return None,
    })
}

fn llama2(hidden: usize, intermediate: usize, layers: usize, heads: usize) -> Config {
    Config {
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-5,
        bos_token_id: Some(1),
        eos_token_id: Some(OneOrMany::One(2)),
        ..Config::new(Sizes {
            hidden,
            intermediate,
            layers,
            heads,
            kv_heads: heads,
            vocab: 32_064,
        })
    }
}

fn llama3(vocab: usize, context: usize) -> Config {
    Config {
        max_position_embeddings: context,
        rms_norm_eps: 1e-5,
        rope_theta: 500_000.0,
        bos_token_id: Some(128_000),
        ..Config::new(Sizes {
            hidden: 4096,
            intermediate: 14_336,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            vocab,
        })
    }
}

/// The texts of Qwen2 do not begin with a special token.
fn qwen2(sizes: Sizes) -> Config {
    Config {
        model_type: Architecture::Qwen2,
        max_position_embeddings: 32_768,
        rms_norm_eps: 1e-6,
        rope_theta: 1_000_000.0,
        eos_token_id: Some(OneOrMany::Many(vec![151_643, 151_645])),
        ..Config::new(sizes)
    }
}
