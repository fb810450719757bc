//! A Hugging Face tokenizer, read from a `tokenizer.json` or a GGUF file.

use super::{
    consistency,
    error::TokenizerError,
    escaping::{EscapingTokenizer, ids},
    gguf, limits, panics,
    unstable_text::{UnstableText, is_byte},
};
use merv_checkpoint::{Checkpoint, text};
use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

/// Maximum size of a `tokenizer.json` in bytes. Files with the largest vocabularies have 35 MB.
const MAX_BYTES: u64 = 1 << 28;

/// A text that every tokenizer can encode, used to find out which ids the tokenizer adds.
const PROBE: &str = "x";

/// A tokenizer from Hugging Face's `tokenizers` library.
pub struct TextTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
    /// The ids that precede every text: the BOS or nothing.
    begin: Vec<u32>,
    /// Which part of a decoded text a further token can change.
    unstable_text: UnstableText,
    /// Treats special tokens in users' text as plain characters, if enabled.
    escaping: Option<EscapingTokenizer>,
}

impl TextTokenizer {
    /// Reads a tokenizer from a `tokenizer.json` or from GGUF metadata. Padding and truncation are disabled:
    /// texts are compared with the model's context length instead.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a valid tokenizer.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let read = panics::catch(|| match gguf_bytes(path)? {
            None => from_gguf(path),
            Some(bytes) => from_json(&bytes),
        });
        let (tokenizer, begin) = read.map_err(|reason| TokenizerError::Load {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self {
            path: path.to_owned(),
            unstable_text: UnstableText::of(tokenizer.get_decoder()),
            tokenizer,
            begin,
            escaping: None,
        })
    }

    /// Returns the ids that precede every text: the BOS or nothing.
    pub fn begin(&self) -> &[u32] {
        &self.begin
    }

    /// Encodes a text that begins a conversation: [`Self::begin`] followed by the ids of the text.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok([self.begin.clone(), self.encode_continuation(text)?].concat())
    }

    /// Encodes a text that continues a conversation, without [`Self::begin`].
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.convert(|| match &self.escaping {
            Some(escaping) => match escaping.ids(text)? {
                Some(ids) => Ok(ids),
                None => ids(&self.tokenizer, text, false),
            },
            None => ids(&self.tokenizer, text, false),
        })
    }

    /// Makes special tokens in users' text ([`Self::escape_special_tokens`]) plain characters, like `split_special_tokens` in
    /// transformers.
    ///
    /// # Errors
    ///
    /// When it has too many special tokens.
    pub fn splitting_special_tokens(mut self) -> Result<Self, TokenizerError> {
        self.escaping = Some(self.convert(|| EscapingTokenizer::new(&self.tokenizer))?);
        Ok(self)
    }

    /// Prepares a user's text for a chat format: replaces special tokens with placeholders after
    /// [`Self::splitting_special_tokens`], and otherwise returns the text unchanged.
    pub fn escape_special_tokens<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.escaping {
            Some(escaping) => escaping.escape(text),
            None => Cow::Borrowed(text),
        }
    }

    /// Decodes `ids`, without special tokens.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.convert(|| {
            self.tokenizer
                .decode(ids, true)
                .map_err(|error| error.to_string())
        })
    }

    /// Returns the number of embeddings that ordinary text needs. Special tokens that were added to the vocabulary,
    /// such as markers of turns and padding, do not count.
    pub fn ordinary_tokens(&self) -> usize {
        let added = self.tokenizer.get_added_tokens_decoder();
        let added = added.iter().filter(|(_, token)| !token.special);
        let added = added.map(|(id, _)| *id as usize + 1).max();
        self.tokenizer.get_vocab_size(false).max(added.unwrap_or(0))
    }

    /// Returns the id of the token with exactly this text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Returns the text of a token, which may be a special token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Returns which part of a decoded text a further token can change.
    pub(super) fn unstable_text(&self) -> &UnstableText {
        &self.unstable_text
    }

    /// Whether this token may continue a run of byte tokens: it is a byte or is not decoded at all.
    pub(super) fn continues_bytes(&self, id: u32) -> Result<bool, TokenizerError> {
        let UnstableText::ByteRuns(before) = &self.unstable_text else {
            return Ok(false);
        };
        let Some(token) = self.token(id) else {
            return Ok(true);
        };
        let vocabulary = self.tokenizer.get_added_vocabulary();
        if vocabulary.is_special_token(&token) {
            return Ok(true);
        }
        self.convert(|| is_byte(before, token))
    }

    fn convert<T>(&self, body: impl FnOnce() -> Result<T, String>) -> Result<T, TokenizerError> {
        panics::catch(body).map_err(|reason| TokenizerError::Convert {
            path: self.path.clone(),
            reason,
        })
    }
}

/// Reads a file, unless it is a GGUF file.
fn gguf_bytes(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut read = |most, bytes: &mut Vec<u8>| {
        let read = file.by_ref().take(most).read_to_end(bytes);
        read.map_err(|error| error.to_string())
    };
    read(4, &mut bytes)?;
    if bytes == b"GGUF" {
        return Ok(None);
    }
    read(MAX_BYTES, &mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!(
            "it is too large; expected at most {MAX_BYTES} bytes"
        ));
    }
    Ok(Some(bytes))
}

fn from_gguf(path: &Path) -> Result<(Tokenizer, Vec<u32>), String> {
    let checkpoint = Checkpoint::open(&[path.to_owned()]).map_err(|error| error.to_string())?;
    gguf::tokenizer(checkpoint.gguf().ok_or("it is not a complete GGUF file")?)
}

fn from_json(bytes: &[u8]) -> Result<(Tokenizer, Vec<u32>), String> {
    let text = text::decode(bytes).map_err(|error| error.to_string())?;
    limits::check(text)?;
    consistency::check_prefix(text)?;
    let mut tokenizer = Tokenizer::from_bytes(text).map_err(|error| error.to_string())?;
    consistency::check_ids(text, &tokenizer)?;
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(None)
        .map_err(|error| error.to_string())?;
    let (bare, whole) = (
        ids(&tokenizer, PROBE, false)?,
        ids(&tokenizer, PROBE, true)?,
    );
    // Ids that the tokenizer would add after a text are ignored, because the reply follows directly.
    let at = (0..=whole.len()).find(|&at| whole[at..].starts_with(&bare));
    let begin = whole[..at.unwrap_or(0)].to_vec();
    Ok((tokenizer, begin))
}
