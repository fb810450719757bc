//! Tokenizers in GGUF metadata (`tokenizer.ggml.*`), compatible with llama.cpp.
//!
//! | `tokenizer.ggml.model` | algorithm |
//! |---|---|
//! | `llama` | SentencePiece BPE: merges the pair with the best score first and encodes unknown characters as bytes |
//! | `gpt2` | byte-level BPE, with a list of merges and a pre-tokenizer |

mod byte_level;
mod sentencepiece;
mod vocabulary;

use merv_checkpoint::GgufMetadata;
use tokenizers::Tokenizer;
use vocabulary::{Vocabulary, find, require};

/// Builds the tokenizer. Also returns the ids that precede every text.
pub(super) fn tokenizer(metadata: &GgufMetadata) -> Result<(Tokenizer, Vec<u32>), String> {
    let vocabulary = Vocabulary::read(metadata)?;
    let model: &str = require(metadata, "model")?;
    let (mut tokenizer, writes_bos) = match model {
        "llama" => (sentencepiece::tokenizer(&vocabulary)?, true),
        "gpt2" => byte_level::tokenizer(&vocabulary)?,
        other => {
            return Err(format!(
                "`tokenizer.ggml.model` is `{other}`; expected `llama` or `gpt2`"
            ));
        }
    };
    vocabulary.add_tokens(&mut tokenizer)?;
    let writes_bos = find(metadata, "add_bos_token")?.unwrap_or(writes_bos);
    let bos = vocabulary.id("bos_token_id")?;
    let begin = bos.filter(|_| writes_bos).into_iter().collect();
    Ok((tokenizer, begin))
}
