//! Byte-level BPE, as in GPT-2, and the pre-tokenizers of different model families.

use super::vocabulary::{MAX_MERGES, Vocabulary, find, require};
use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
    models::bpe::{BPE, Vocab},
    normalizers::NFC,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

/// The pattern with which Llama 3 splits a text. `DIGITS` stands for the pattern of a group of digits. Qwen2 uses
/// the same pattern with single digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The pattern with which GPT-2 splits a text.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The pre-tokenizer of a family of models, as named by `tokenizer.ggml.pre`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Splitting {
    /// The default of llama.cpp for files that do not name one.
    Default,
    Gpt2,
    Llama3,
    Qwen2,
    /// Single digits; otherwise like GPT-2.
    SingleDigits,
}

/// Builds the tokenizer. Also returns whether it adds the BOS if the file does not specify it.
pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<(Tokenizer, bool), String> {
    let splitting = Splitting::named(find(vocabulary.metadata, "pre")?)?;
    let merges: &[String] = require(vocabulary.metadata, "merges")?;
    if merges.len() > MAX_MERGES {
        return Err(format!(
            "it has {} merges; expected at most {MAX_MERGES}",
            merges.len()
        ));
    }
    let merges = merges.iter().enumerate().map(|(index, merge)| {
        // A part may begin with a space, but is never empty.
        let blank = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let parts = blank.map(|(at, _)| (merge[..at].to_owned(), merge[at + 1..].to_owned()));
        parts.ok_or_else(|| {
            let merge = crate::messages::quoted(merge);
            format!("merge {index} is {merge}; expected two parts separated by a space")
        })
    });
    let model = BPE::builder()
        .vocab_and_merges(
            vocabulary.map().collect::<Vocab>(),
            merges.collect::<Result<Vec<_>, _>>()?,
        )
        .ignore_merges(splitting == Splitting::Llama3)
        .build()
        .map_err(|error| format!("its merges do not match its tokens: {error}"))?;
    let mut tokenizer = Tokenizer::new(model);
    if splitting == Splitting::Qwen2 {
        tokenizer.with_normalizer(Some(NFC));
    }
    tokenizer.with_pre_tokenizer(Some(splitting.pre_tokenizer()?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok((tokenizer, splitting == Splitting::Llama3))
}

impl Splitting {
    fn named(name: Option<&str>) -> Result<Self, String> {
        Ok(match name {
            None | Some("default") => Self::Default,
            Some("gpt-2" | "mpt" | "olmo") => Self::Gpt2,
            Some("llama-bpe" | "llama3" | "llama-v3" | "falcon3") => Self::Llama3,
            Some("qwen2" | "deepseek-r1-qwen") => Self::Qwen2,
            Some("smollm" | "starcoder" | "refact" | "command-r") => Self::SingleDigits,
            Some(other) => {
                return Err(format!(
                    "`tokenizer.ggml.pre` is `{other}`; expected `default`, `gpt-2`, `llama-bpe`, `qwen2`, \
                     `smollm`, or another name for one of these"
                ));
            }
        })
    }

    fn pre_tokenizer(self) -> Result<Sequence, String> {
        let split = |regex: &str| {
            let pattern = SplitPattern::Regex(regex.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            split
                .map(PreTokenizerWrapper::from)
                .map_err(|error| error.to_string())
        };
        let mut steps: Vec<PreTokenizerWrapper> = match self {
            Self::Default => vec![
                split(r"[\p{P}\$\+<=>\^~\|]+")?,
                split(GPT2)?,
                split(r"\p{N}+")?,
                split("[0-9][0-9][0-9]")?,
            ],
            Self::Gpt2 => vec![split(GPT2)?],
            Self::Llama3 => vec![split(&LLAMA3.replace("DIGITS", r"\p{N}{1,3}"))?],
            Self::Qwen2 => vec![split(&LLAMA3.replace("DIGITS", r"\p{N}"))?],
            Self::SingleDigits => vec![Digits::new(true).into(), split(GPT2)?],
        };
        // Maps bytes to characters. The text is already split.
        steps.push(ByteLevel::new(false, true, false).into());
        Ok(Sequence::new(steps))
    }
}
