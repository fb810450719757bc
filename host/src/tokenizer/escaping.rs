//! Text from users, in which `</s>` is four plain characters and not the end of a reply.
//!
//! A chat format writes special tokens around the user's text. To tell them apart in the combined text, special
//! tokens in the user's text are first replaced with placeholder characters. When the text is tokenised, the
//! placeholders become plain characters again, and only the special tokens of the format are recognised.

use std::{borrow::Cow, collections::HashMap};
use tokenizers::{AddedToken, Tokenizer};

/// The first placeholder for a special token in the user's text. Placeholders are private-use characters, which
/// ordinary text does not contain.
const FIRST_ESCAPED: u32 = 0xF0000;

/// The first placeholder for a special token that the format wrote.
const FIRST_WRITTEN: u32 = 0x10_0000;

/// Maximum number of special tokens: the size of a private-use plane.
const MAX_SPECIAL_TOKENS: usize = 65_000;

/// A tokenizer that recognises placeholders instead of special tokens.
pub(super) struct EscapingTokenizer {
    tokenizer: Tokenizer,
    specials: Vec<Special>,
    /// The ids of special tokens by the ids of their placeholders.
    ids: HashMap<u32, u32>,
}

/// A special token and its placeholders.
struct Special {
    text: String,
    /// The placeholder in the user's text.
    escaped: char,
    /// The placeholder where the format wrote the token.
    written: String,
}

impl EscapingTokenizer {
    /// Derives it from a tokenizer that recognises special tokens.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let mut marked = tokenizer.clone();
        marked.set_encode_special_tokens(true);
        let added = tokenizer.get_added_tokens_decoder();
        let mut found: Vec<(u32, AddedToken)> = added
            .into_iter()
            .filter(|(_, token)| token.special)
            .collect();
        if found.len() > MAX_SPECIAL_TOKENS {
            return Err(format!(
                "it has {} special tokens; expected at most {MAX_SPECIAL_TOKENS}",
                found.len()
            ));
        }
        // If one token is a prefix of another, the longer one is replaced first.
        found.sort_by_key(|(id, token)| (std::cmp::Reverse(token.content.len()), *id));
        let placeholder = |first: u32, index: usize| {
            let code = u32::try_from(index)
                .ok()
                .and_then(|index| char::from_u32(first + index));
            code.ok_or_else(|| "it has too many special tokens".to_owned())
        };
        let mut placeholders = Vec::with_capacity(found.len());
        let mut specials = Vec::with_capacity(found.len());
        let mut ids = Vec::with_capacity(found.len());
        for (index, (id, token)) in found.into_iter().enumerate() {
            let written = placeholder(FIRST_WRITTEN, index)?.to_string();
            specials.push(Special {
                text: token.content.clone(),
                escaped: placeholder(FIRST_ESCAPED, index)?,
                written: written.clone(),
            });
            placeholders.push(AddedToken {
                content: written,
                special: false,
                ..token
            });
            ids.push(id);
        }
        marked.add_tokens(&placeholders);
        let placeholder_id = |(special, id): (&Special, u32)| {
            let placeholder = marked.token_to_id(&special.written);
            placeholder
                .map(|placeholder| (placeholder, id))
                .ok_or("the placeholder of a special token was not added")
        };
        let ids = specials.iter().zip(ids).map(placeholder_id);
        Ok(Self {
            ids: ids.collect::<Result<_, _>>()?,
            tokenizer: marked,
            specials,
        })
    }

    /// Replaces special tokens in the user's text with placeholders.
    pub fn escape<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        if text.contains(is_placeholder) {
            text = Cow::Owned(text.replace(is_placeholder, "\u{FFFD}"));
        }
        for special in &self.specials {
            if text.contains(&special.text) {
                text = Cow::Owned(text.replace(&special.text, &special.escaped.to_string()));
            }
        }
        text
    }

    /// Tokenises a text with placeholders. Returns `None` for a text without any, which needs no special treatment.
    pub fn ids(&self, text: &str) -> Result<Option<Vec<u32>>, String> {
        if !text.contains(is_placeholder) {
            return Ok(None);
        }
        let mut text = text.to_owned();
        for special in &self.specials {
            text = text.replace(&special.text, &special.written);
        }
        for special in &self.specials {
            text = text.replace(special.escaped, &special.text);
        }
        let mut ids = ids(&self.tokenizer, &text, false)?;
        for id in &mut ids {
            *id = self.ids.get(id).copied().unwrap_or(*id);
        }
        Ok(Some(ids))
    }
}

fn is_placeholder(c: char) -> bool {
    u32::from(c) >= FIRST_ESCAPED
}

/// Tokenises a text. If `special` is set, the tokenizer adds its special tokens around it.
pub(super) fn ids(tokenizer: &Tokenizer, text: &str, special: bool) -> Result<Vec<u32>, String> {
    let encoding = tokenizer.encode_fast(text, special);
    Ok(encoding
        .map_err(|error| error.to_string())?
        .get_ids()
        .to_vec())
}
