//! Consistency checks on a `tokenizer.json` that the library does not make.

use crate::messages::quoted;
use serde::{Deserialize, de::IgnoredAny};
use std::collections::HashMap;
use tokenizers::Tokenizer;

/// Checks that the second part of each merge begins with `continuing_subword_prefix`. The library removes as many
/// bytes without checking them.
pub(super) fn check_prefix(json: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Prefixed {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        continuing_subword_prefix: Option<String>,
        #[serde(default)]
        merges: Vec<Merge>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merge {
        Text(String),
        Pair([String; 2]),
        Other(IgnoredAny),
    }
    // Most files do not define a prefix, and parsing the merges takes time.
    let stated = json.split_once("\"continuing_subword_prefix\"");
    let stated = stated.and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    if !stated.is_some_and(|value| value.trim_start().starts_with('"')) {
        return Ok(());
    }
    let Ok(Prefixed { model }) = serde_json::from_str(json) else {
        return Ok(());
    };
    let prefix = model.continuing_subword_prefix.unwrap_or_default();
    let seconds = model.merges.iter().filter_map(|merge| match merge {
        Merge::Text(text) => text.split_once(' ').map(|(_, second)| second),
        Merge::Pair([_, second]) => Some(second.as_str()),
        Merge::Other(_) => None,
    });
    match seconds
        .into_iter()
        .find(|second| !second.starts_with(&prefix))
    {
        Some(second) => Err(format!(
            "its `continuing_subword_prefix` is {}, but the second part of a merge, {}, does not begin with it",
            quoted(&prefix),
            quoted(second)
        )),
        None => Ok(()),
    }
}

/// Checks that no two tokens have the same id. Otherwise it is undefined which of them an id stands for.
pub(super) fn check_ids(json: &str, tokenizer: &Tokenizer) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    #[derive(Deserialize)]
    struct Added {
        #[serde(default)]
        content: String,
        #[serde(default)]
        id: Option<u32>,
    }
    let mut tokens: Vec<(String, u32)> = tokenizer.get_vocab(false).into_iter().collect();
    tokens.sort();
    let outline = serde_json::from_str::<Outline>(json);
    let added = outline.map_or(Vec::new(), |outline| outline.added_tokens);
    let added = added.into_iter();
    let added = added.filter_map(|Added { content, id }| Some((content, id?)));
    let mut owners: HashMap<u32, String> = HashMap::with_capacity(tokens.len());
    for (token, id) in tokens.into_iter().chain(added) {
        match owners.insert(id, token.clone()) {
            Some(other) if other != token => {
                let (other, token) = (quoted(&other), quoted(&token));
                return Err(format!(
                    "its tokens {other} and {token} both have the id {id}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
