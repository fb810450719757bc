//! Text that people type, in which `</s>` is four characters and not the end of a reply.
//!
//! A format or a template writes special tokens around what was typed. So that both can be told apart once they
//! are one text, special tokens in what was typed are replaced by marks first, and the marks become the characters
//! again where the text is tokenised, which is done so that only the tokens of the format count.

use std::{borrow::Cow, collections::HashMap};
use tokenizers::{AddedToken, Tokenizer};

/// The first mark of what was typed. Marks are characters of the planes for private use, which no text needs.
const HIDDEN: u32 = 0xF0000;

/// The first mark of a special token that the format wrote.
const WRITTEN: u32 = 0x10_0000;

/// Special tokens at most: each plane has as many characters.
const MOST: usize = 65_000;

/// A tokenizer that takes no special token from a text, but marks in their place.
pub(super) struct Typed {
    tokenizer: Tokenizer,
    specials: Vec<Special>,
    /// Special tokens by the ids of their marks.
    ids: HashMap<u32, u32>,
}

/// A special token and its marks.
struct Special {
    text: String,
    /// Its mark in what was typed.
    hidden: char,
    /// Its mark where the format wrote it.
    written: String,
}

impl Typed {
    /// Of a tokenizer that takes special tokens from a text.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let mut marked = tokenizer.clone();
        marked.set_encode_special_tokens(true);
        let added = tokenizer.get_added_tokens_decoder();
        let mut found: Vec<(u32, AddedToken)> = added
            .into_iter()
            .filter(|(_, token)| token.special)
            .collect();
        if found.len() > MOST {
            return Err(format!(
                "it has {} special tokens; expected {MOST} at most",
                found.len()
            ));
        }
        // Of two that begin alike the longer one counts.
        found.sort_by_key(|(id, token)| (std::cmp::Reverse(token.content.len()), *id));
        let mark = |first: u32, index: usize| {
            let code = u32::try_from(index)
                .ok()
                .and_then(|index| char::from_u32(first + index));
            code.ok_or_else(|| "it has too many special tokens".to_owned())
        };
        let mut marks = Vec::with_capacity(found.len());
        let mut specials = Vec::with_capacity(found.len());
        let mut ids = Vec::with_capacity(found.len());
        for (index, (id, token)) in found.into_iter().enumerate() {
            let written = mark(WRITTEN, index)?.to_string();
            specials.push(Special {
                text: token.content.clone(),
                hidden: mark(HIDDEN, index)?,
                written: written.clone(),
            });
            marks.push(AddedToken {
                content: written,
                special: false,
                ..token
            });
            ids.push(id);
        }
        marked.add_tokens(&marks);
        let of_mark = |(special, id): (&Special, u32)| {
            let mark = marked.token_to_id(&special.written);
            mark.map(|mark| (mark, id))
                .ok_or("a mark of a special token is lost")
        };
        let ids = specials.iter().zip(ids).map(of_mark);
        Ok(Self {
            ids: ids.collect::<Result<_, _>>()?,
            tokenizer: marked,
            specials,
        })
    }

    /// What was typed, with marks in place of special tokens.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        if text.contains(is_mark) {
            text = Cow::Owned(text.replace(is_mark, "\u{FFFD}"));
        }
        for special in &self.specials {
            if text.contains(&special.text) {
                text = Cow::Owned(text.replace(&special.text, &special.hidden.to_string()));
            }
        }
        text
    }

    /// The ids of a text with marks; none of one without, which is tokenised as any other.
    pub fn ids(&self, text: &str) -> Result<Option<Vec<u32>>, String> {
        if !text.contains(is_mark) {
            return Ok(None);
        }
        let mut text = text.to_owned();
        for special in &self.specials {
            text = text.replace(&special.text, &special.written);
        }
        for special in &self.specials {
            text = text.replace(special.hidden, &special.text);
        }
        let mut ids = ids(&self.tokenizer, &text, false)?;
        for id in &mut ids {
            *id = self.ids.get(id).copied().unwrap_or(*id);
        }
        Ok(Some(ids))
    }
}

fn is_mark(c: char) -> bool {
    u32::from(c) >= HIDDEN
}

/// The ids of a text, with what the tokenizer writes around it if `special`.
pub(super) fn ids(tokenizer: &Tokenizer, text: &str, special: bool) -> Result<Vec<u32>, String> {
    let encoding = tokenizer.encode_fast(text, special);
    Ok(encoding
        .map_err(|error| error.to_string())?
        .get_ids()
        .to_vec())
}
