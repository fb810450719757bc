//! Limits on a `tokenizer.json`, checked before the library builds it: some parts need far more memory or time than
//! their description takes.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::fmt;

/// Maximum length of an added token in bytes. Published ones have about 30. Building the automaton takes time
/// quadratic in the length.
const MAX_ADDED: usize = 512;

/// Maximum total length of the added tokens in bytes.
const MAX_ALL_ADDED: usize = 1 << 20;

/// Maximum length of a token or merge in bytes. The longest published ones have about 300.
const MAX_TOKEN: usize = 4096;

/// Maximum length in bytes of a string in a normalizer or a similar component, except character tables.
const MAX_TEXT: usize = 4096;

/// Maximum size in bytes of a character table (`precompiled_charsmap`). Published ones have 700,000.
const MAX_TABLE: usize = 1 << 23;

/// Maximum number of steps of a normalizer, a decoder or a similar component.
const MAX_STEPS: usize = 1000;

/// Maximum factor by which the steps may lengthen a text.
const MAX_GROWTH: f64 = 4096.0;

#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    model: LongestString,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct Added {
    #[serde(default)]
    content: String,
}

/// The length of the longest string in a JSON value.
#[derive(Default)]
struct LongestString(usize);

/// Checks a `tokenizer.json`. Invalid files pass, because the library reports them with a better error.
pub(super) fn check(json: &str) -> Result<(), String> {
    let Ok(outline) = serde_json::from_str::<Outline>(json) else {
        return Ok(());
    };
    let at_most = |what: &str, found: usize, most: usize| {
        if found > most {
            return Err(format!("{what} has {found} bytes; expected at most {most}"));
        }
        Ok(())
    };
    let mut all = 0;
    for (index, added) in outline.added_tokens.iter().enumerate() {
        at_most(
            &format!("added token {index}"),
            added.content.len(),
            MAX_ADDED,
        )?;
        all += added.content.len();
    }
    at_most("the list of added tokens", all, MAX_ALL_ADDED)?;
    at_most("a token or merge of its model", outline.model.0, MAX_TOKEN)?;
    for (name, part) in [
        ("normalizer", &outline.normalizer),
        ("pre_tokenizer", &outline.pre_tokenizer),
        ("post_processor", &outline.post_processor),
        ("decoder", &outline.decoder),
    ] {
        let mut steps = Steps {
            count: 0,
            growth: 1.0,
        };
        steps
            .add(part, None)
            .map_err(|why| format!("its `{name}` {why}"))?;
    }
    Ok(())
}

/// The steps of a normalizer or a similar component.
struct Steps {
    count: usize,
    growth: f64,
}

impl Steps {
    fn add(&mut self, part: &Value, key: Option<&str>) -> Result<(), String> {
        match part {
            Value::Object(entries) => {
                if entries.contains_key("type") {
                    self.count += 1;
                    self.growth *= growth(part);
                }
                if self.count > MAX_STEPS {
                    return Err(format!("has too many steps; expected at most {MAX_STEPS}"));
                }
                if self.growth > MAX_GROWTH {
                    return Err(format!(
                        "lengthens texts too much; expected a factor of at most {MAX_GROWTH}"
                    ));
                }
                let mut entries = entries.iter();
                entries.try_for_each(|(key, value)| self.add(value, Some(key)))
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.add(item, key)),
            Value::String(text) => {
                let most = if key == Some("precompiled_charsmap") {
                    MAX_TABLE
                } else {
                    MAX_TEXT
                };
                if text.len() > most {
                    let found = text.len();
                    return Err(format!(
                        "has a string of {found} bytes; expected at most {most}"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The factor by which a step may lengthen a text.
fn growth(step: &Value) -> f64 {
    if step["type"] != "Replace" {
        return 1.0;
    }
    let content = step["content"].as_str().map_or(0, str::len);
    // A regular expression may match single bytes, or the empty string before each byte.
    let pattern = step["pattern"]["String"]
        .as_str()
        .map_or(1, str::len)
        .max(1);
    let matched = content as f64 / pattern as f64;
    if step["pattern"]["String"].is_string() {
        matched.max(1.0)
    } else {
        matched + 1.0
    }
}

impl<'de> Deserialize<'de> for LongestString {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(LongestStringVisitor).map(Self)
    }
}

struct LongestStringVisitor;

impl<'de> Visitor<'de> for LongestStringVisitor {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<usize, E> {
        Ok(text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<usize, A::Error> {
        let mut longest = 0;
        while let Some(LongestString(length)) = items.next_element()? {
            longest = longest.max(length);
        }
        Ok(longest)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<usize, A::Error> {
        let mut longest = 0;
        while let Some(LongestString(length)) = entries.next_key()? {
            let LongestString(inside) = entries.next_value()?;
            longest = longest.max(length).max(inside);
        }
        Ok(longest)
    }
}
