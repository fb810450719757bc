//! The vocabulary of a GGUF file.

use merv_checkpoint::GgufMetadata;
use tokenizers::{AddedToken, Tokenizer};

/// Maximum number of tokens. The largest vocabularies have 262,144.
const MAX_TOKENS: usize = 1 << 20;

/// Maximum number of merges. The largest vocabularies have about 600,000.
pub(super) const MAX_MERGES: usize = 1 << 21;

/// Maximum length of a token in bytes.
const MAX_TOKEN: usize = 512;

/// Maximum total length in bytes of the added tokens, which are matched before anything else. Their automaton
/// needs a multiple of this in memory.
const MAX_ADDED: usize = 1 << 20;

/// The kind of a token, as numbered by `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of ordinary text.
    Normal,
    /// Stands for characters that are not in the vocabulary.
    Unknown,
    /// A control token such as the BOS, which does not occur in text.
    Control,
    /// Occurs in text and is never split.
    UserDefined,
    /// Unused.
    Unused,
    /// A byte of a character that is not in the vocabulary.
    Byte,
}

/// The vocabulary of a GGUF file.
pub(super) struct Vocabulary<'a> {
    pub(super) metadata: &'a GgufMetadata,
    pub(super) tokens: &'a [String],
    pub(super) kinds: Vec<Kind>,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn read(metadata: &'a GgufMetadata) -> Result<Self, String> {
        let tokens: &[String] = require(metadata, "tokens")?;
        if tokens.len() > MAX_TOKENS {
            return Err(format!(
                "it has {} tokens; expected at most {MAX_TOKENS}",
                tokens.len()
            ));
        }
        if let Some(id) = tokens.iter().position(|token| token.len() > MAX_TOKEN) {
            let length = tokens[id].len();
            return Err(format!(
                "token {id} has {length} bytes; expected at most {MAX_TOKEN}"
            ));
        }
        let codes: Option<Vec<i64>> = find(metadata, "token_type")?;
        let kinds = match codes {
            Some(codes) => {
                same_length("token_type", codes.len(), tokens)?;
                let kinds = codes.iter().enumerate().map(|(id, &code)| kind(id, code));
                kinds.collect::<Result<_, _>>()?
            }
            None => vec![Kind::Normal; tokens.len()],
        };
        let mut vocabulary = Self {
            metadata,
            tokens,
            kinds,
        };
        for (key, kind) in [
            ("bos_token_id", Kind::Control),
            ("eos_token_id", Kind::Control),
            ("eot_token_id", Kind::Control),
            ("unknown_token_id", Kind::Unknown),
        ] {
            if let Some(id) = vocabulary.id(key)? {
                vocabulary.kinds[id as usize] = kind;
            }
        }
        Ok(vocabulary)
    }

    /// Returns the token id stored under a key, and checks that such a token exists.
    pub(super) fn id(&self, key: &str) -> Result<Option<u32>, String> {
        let id: Option<u32> = find(self.metadata, key)?;
        match id {
            Some(id) if id as usize >= self.tokens.len() => Err(format!(
                "`tokenizer.ggml.{key}` is {id}; expected less than {}, the number of tokens",
                self.tokens.len()
            )),
            id => Ok(id),
        }
    }

    /// All tokens with their ids. Empty tokens, with which some files fill gaps, are skipped.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, &'a str, Kind)> {
        let kinds = self.kinds.iter().copied();
        let tokens = self.tokens.iter().map(String::as_str);
        let entries = tokens.zip(kinds).zip(0..);
        entries.filter_map(|((token, kind), id)| (!token.is_empty()).then_some((id, token, kind)))
    }

    /// The vocabulary in the form that `tokenizers` expects.
    pub(super) fn map(&self) -> impl Iterator<Item = (String, u32)> {
        self.entries().map(|(id, token, _)| (token.to_owned(), id))
    }

    /// Adds the tokens that are matched before anything else.
    pub(super) fn add_tokens(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        let of = |special: &[Kind]| {
            let chosen = self.entries().filter(|(_, _, kind)| special.contains(kind));
            chosen.map(|(_, token, _)| token).collect::<Vec<_>>()
        };
        let special = of(&[Kind::Control, Kind::Unknown]);
        let plain = of(&[Kind::UserDefined]);
        let bytes: usize = special.iter().chain(&plain).map(|token| token.len()).sum();
        if bytes > MAX_ADDED {
            return Err(format!(
                "its control and user-defined tokens have {bytes} bytes; expected at most {MAX_ADDED}"
            ));
        }
        let added = |tokens: &[&str], special| {
            let tokens = tokens.iter();
            let tokens = tokens.map(|&token| AddedToken::from(token, special).normalized(false));
            tokens.collect::<Vec<_>>()
        };
        tokenizer.add_special_tokens(&added(&special, true));
        tokenizer.add_tokens(&added(&plain, false));
        Ok(())
    }
}

fn kind(id: usize, code: i64) -> Result<Kind, String> {
    Ok(match code {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        _ => return Err(format!("token {id} is of type {code}; expected 1 to 6")),
    })
}

pub(super) fn same_length(key: &str, length: usize, tokens: &[String]) -> Result<(), String> {
    if length == tokens.len() {
        return Ok(());
    }
    Err(format!(
        "`tokenizer.ggml.{key}` has {length} elements; expected {}, one for each token",
        tokens.len()
    ))
}

pub(super) fn find<'a, T: merv_checkpoint::FromGguf<'a>>(
    metadata: &'a GgufMetadata,
    key: &str,
) -> Result<Option<T>, String> {
    let found = metadata.find(&format!("tokenizer.ggml.{key}"));
    found.map_err(|error| error.to_string())
}

pub(super) fn require<'a, T: merv_checkpoint::FromGguf<'a>>(
    metadata: &'a GgufMetadata,
    key: &str,
) -> Result<T, String> {
    let found = metadata.require(&format!("tokenizer.ggml.{key}"));
    found.map_err(|error| error.to_string())
}
