//! A tokenizer of Hugging Face's `tokenizers`, from a `tokenizer.json` or a GGUF file.

use super::{
    caught, consistency,
    error::TextError,
    gguf,
    growth::{Growth, is_byte},
    limits,
    typed::{Typed, ids},
};
use merv_checkpoint::{Checkpoint, text};
use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

/// Bytes of a `tokenizer.json` at most; those of the largest vocabularies have 35 MB.
const MAX_BYTES: u64 = 1 << 28;

/// A text that every tokenizer knows, to see what it writes around one.
const PROBE: &str = "x";

/// A tokenizer of Hugging Face's `tokenizers`.
pub struct TextTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
    /// What stands before every text: the BOS, or nothing.
    begin: Vec<u32>,
    /// What of a text a further token can change.
    growth: Growth,
    /// Keeps special tokens out of what people type, where that is wanted.
    typed: Option<Typed>,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`, or the tokenizer in a GGUF file's metadata. Padding and truncation that it
    /// may ask for are switched off: texts are measured against the model's context instead.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no tokenizer.
    pub fn load(path: &Path) -> Result<Self, TextError> {
        let read = caught::caught(|| match gguf_bytes(path)? {
            None => from_gguf(path),
            Some(bytes) => from_json(&bytes),
        });
        let (tokenizer, begin) = read.map_err(|reason| TextError::Load {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self {
            path: path.to_owned(),
            growth: Growth::of(tokenizer.get_decoder()),
            tokenizer,
            begin,
            typed: None,
        })
    }

    /// What the tokenizer writes before every text: the BOS, or nothing.
    pub fn begin(&self) -> &[u32] {
        &self.begin
    }

    /// The ids of a text that begins a conversation: [`Self::begin`], then the text's own.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok([self.begin.clone(), self.encode_more(text)?].concat())
    }

    /// The ids of a text alone.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn encode_more(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.convert(|| match &self.typed {
            Some(typed) => match typed.ids(text)? {
                Some(ids) => Ok(ids),
                None => ids(&self.tokenizer, text, false),
            },
            None => ids(&self.tokenizer, text, false),
        })
    }

    /// The same tokenizer, to which special tokens in what people type ([`Self::typed`]) are plain characters, as
    /// with `split_special_tokens` of transformers.
    ///
    /// # Errors
    ///
    /// When it has too many special tokens.
    pub fn splitting_special_tokens(mut self) -> Result<Self, TextError> {
        self.typed = Some(self.convert(|| Typed::new(&self.tokenizer))?);
        Ok(self)
    }

    /// What a person typed, ready to be put into a format or a template: with marks in place of special tokens if
    /// these are to be plain characters, else as it is.
    pub fn typed<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.typed {
            Some(typed) => typed.hide(text),
            None => Cow::Borrowed(text),
        }
    }

    /// The text of `ids` without special tokens.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.convert(|| {
            self.tokenizer
                .decode(ids, true)
                .map_err(|error| error.to_string())
        })
    }

    /// Tokens that ordinary text may become: those that were added afterwards, as markers of turns and padding
    /// are, do not count.
    pub fn ordinary_tokens(&self) -> usize {
        self.tokenizer.get_vocab_size(false)
    }

    /// The id of a token by its very text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The text of a token, special ones too.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// What of a text a further token can change.
    pub(super) fn growth(&self) -> &Growth {
        &self.growth
    }

    /// Whether a run of byte tokens goes on with this one: it is a byte, or nothing that is decoded.
    pub(super) fn continues_bytes(&self, id: u32) -> Result<bool, TextError> {
        let Growth::ByteRuns(before) = &self.growth else {
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

    fn convert<T>(&self, body: impl FnOnce() -> Result<T, String>) -> Result<T, TextError> {
        caught::caught(body).map_err(|reason| TextError::Convert {
            path: self.path.clone(),
            reason,
        })
    }
}

/// The bytes of a file that is no GGUF file; none of one that is.
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
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    Ok(Some(bytes))
}

fn from_gguf(path: &Path) -> Result<(Tokenizer, Vec<u32>), String> {
    let checkpoint = Checkpoint::open(&[path.to_owned()]).map_err(|error| error.to_string())?;
    gguf::tokenizer(checkpoint.gguf().ok_or("it is no whole GGUF file")?)
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
    // What it would write behind a text has no place in a prompt, which the reply continues.
    let at = (0..=whole.len()).find(|&at| whole[at..].starts_with(&bare));
    let begin = whole[..at.unwrap_or(0)].to_vec();
    Ok((tokenizer, begin))
}
