//! BPE over bytes, as GPT-2 has it, and the ways of splitting a text before it.

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

/// How Llama-3 splits a text, with the digits it takes at a time where `DIGITS` stands; Qwen2 takes one.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How GPT-2 splits a text.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// How a family of models splits a text: what `tokenizer.ggml.pre` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Splitting {
    /// What llama.cpp does with files that say nothing.
    Default,
    Gpt2,
    Llama3,
    Qwen2,
    /// Digits alone, the rest as GPT-2.
    SingleDigits,
}

/// The tokenizer, and whether it writes the BOS where the file does not say.
pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<(Tokenizer, bool), String> {
    let splitting = Splitting::named(find(vocabulary.metadata, "pre")?)?;
    let merges: &[String] = require(vocabulary.metadata, "merges")?;
    if merges.len() > MAX_MERGES {
        return Err(format!(
            "it has {} merges; expected {MAX_MERGES} at most",
            merges.len()
        ));
    }
    let merges = merges.iter().enumerate().map(|(index, merge)| {
        // A part may itself begin with a blank, but is never empty.
        let blank = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let parts = blank.map(|(at, _)| (merge[..at].to_owned(), merge[at + 1..].to_owned()));
        parts.ok_or_else(|| {
            let merge = crate::messages::shown(merge);
            format!("merge {index} is {merge}; expected two parts and a blank between")
        })
    });
    let model = BPE::builder()
        .vocab_and_merges(
            vocabulary.map().collect::<Vocab>(),
            merges.collect::<Result<Vec<_>, _>>()?,
        )
        .ignore_merges(splitting == Splitting::Llama3)
        .build()
        .map_err(|error| format!("its merges do not fit its tokens: {error}"))?;
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
                    "`tokenizer.ggml.pre` is `{other}`; expected one of `default`, `gpt-2`, `llama-bpe`, \
                     `qwen2`, `smollm`, or another name of these"
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
        // Bytes become characters; the text was split already.
        steps.push(ByteLevel::new(false, true, false).into());
        Ok(Sequence::new(steps))
    }
}
