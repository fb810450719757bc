//! Parses and checks one example of the JSON file.

#[cfg(test)]
mod tests;

use super::{
    media::{self, Modality},
    unique::{Unique, twice},
};
use crate::messages::{quoted, shortened};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::{collections::HashSet, fmt, path::PathBuf};

/// The keys of the list of messages, and the keys of a message, in the styles of LLaVA and OpenAI.
const LISTS: [&str; 2] = ["conversations", "messages"];
const SPEAKERS: [&str; 2] = ["from", "role"];
const TEXTS: [&str; 2] = ["value", "content"];

/// The key of a system prompt.
const SYSTEM: &str = "system";

/// Maximum number of unknown keys of an example that are kept, to find misspelt ones.
const MAX_OTHERS: usize = 32;

/// An example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its `id`; empty if it has none.
    pub id: String,
    /// The path of its image or video, as written in the file.
    pub visual: Option<(Modality, PathBuf)>,
    /// The system prompt of its conversation, if it has one.
    pub system: Option<String>,
    /// Question, reply, question, reply and so on.
    pub turns: Vec<String>,
    /// Whether it has no image or video because the key is `null` or an empty list.
    pub has_empty_medium: bool,
}

/// What is wrong with an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleFault {
    /// The reason, in one line.
    pub why: String,
    /// For a JSON syntax error, its line and column in the example, counted from 1.
    pub place: Option<(usize, usize)>,
}

impl From<String> for ExampleFault {
    fn from(why: String) -> Self {
        Self { why, place: None }
    }
}

impl Example {
    /// Parses the JSON of one example.
    ///
    /// # Errors
    ///
    /// What is wrong with the example.
    pub fn parse(json: &[u8]) -> Result<Self, ExampleFault> {
        let ExampleObject { fields, others } = serde_json::from_slice(json).map_err(|error| {
            let text = error.to_string();
            let why = text.rsplit_once(" at line ").map_or(&*text, |(why, _)| why);
            ExampleFault {
                why: shortened(why),
                place: Some((error.line(), error.column())),
            }
        })?;
        let visual = media::visual(&fields)?;
        let (system, turns) = conversation(&fields, &others)?;
        let shows = visual.as_ref().map(|(modality, _)| *modality);
        let first = 1 + usize::from(system.of_a_turn);
        let said = turns.iter().enumerate();
        let said = said.map(|(number, text)| (first + number, text.as_str(), number % 2 == 1));
        media::check_marks(shows, &others, said)?;
        Ok(Self {
            has_empty_medium: visual.is_none() && media::has_empty_key(&fields),
            id: match field(&fields, "id") {
                Some(Value::String(id)) => id.clone(),
                None | Some(Value::Null) => String::new(),
                Some(other) => other.to_string(),
            },
            visual,
            system: system.text,
            turns,
        })
    }

    /// Returns whether it has an image, a video or neither.
    pub fn modality(&self) -> Modality {
        let visual = self.visual.as_ref();
        visual.map_or(Modality::Text, |(modality, _)| *modality)
    }
}

/// The keys of an example that are used. The values of other keys are ignored.
struct ExampleObject {
    /// The values that are used, by key. No key occurs twice.
    fields: Vec<(String, Value)>,
    /// Some of the other keys.
    others: Vec<String>,
}

impl<'de> Deserialize<'de> for ExampleObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = ExampleObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an example, `{…}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ExampleObject, A::Error> {
                let (mut fields, mut others) = (Vec::new(), Vec::new());
                let mut seen = HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !matters(&key) {
                        map.next_value::<IgnoredAny>()?;
                        if others.len() < MAX_OTHERS {
                            others.push(key);
                        }
                    } else if seen.insert(key.clone()) {
                        let Unique(value) = map.next_value()?;
                        fields.push((key, value));
                    } else {
                        return Err(twice(&key));
                    }
                }
                Ok(ExampleObject { fields, others })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn matters(key: &str) -> bool {
    LISTS.contains(&key)
        || ["id", SYSTEM].contains(&key)
        || is_another_system(key)
        || media::concerns(key)
}

/// Returns whether a key is another spelling of `system`, such as `System` or `system_prompt`.
fn is_another_system(key: &str) -> bool {
    let plain = key.chars().filter(|c| c.is_alphanumeric()).take(20);
    let plain: String = plain.flat_map(char::to_lowercase).collect();
    let names = [SYSTEM, "systemprompt", "systemmessage"];
    key != SYSTEM && names.contains(&plain.as_str())
}

fn field<'f>(fields: &'f [(String, Value)], key: &str) -> Option<&'f Value> {
    let found = fields.iter().find(|(other, _)| other == key);
    found.map(|(_, value)| value)
}

/// A system prompt, and whether it was the first message.
#[derive(Default)]
struct SystemPrompt {
    text: Option<String>,
    of_a_turn: bool,
}

/// The speaker of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    System,
    User,
    Assistant,
}

impl Speaker {
    fn named(name: &str) -> Option<Self> {
        match name {
            "system" => Some(Self::System),
            "human" | "user" => Some(Self::User),
            "gpt" | "assistant" => Some(Self::Assistant),
            _ => None,
        }
    }

    /// Returns the names of the speaker in both styles.
    fn names(self) -> &'static str {
        match self {
            Self::System => "`system`",
            Self::User => "`human` or `user`",
            Self::Assistant => "`gpt` or `assistant`",
        }
    }
}

/// Returns the system prompt, and the texts of the other messages.
fn conversation(
    fields: &[(String, Value)],
    others: &[String],
) -> Result<(SystemPrompt, Vec<String>), String> {
    let messages = messages(fields, others)?;
    let holds_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let mut misnamed = fields.iter().filter(|(key, _)| is_another_system(key));
    if let Some((key, _)) = misnamed.find(|(_, value)| holds_text(value)) {
        return Err(format!("unknown key {}: write `{SYSTEM}`", quoted(key)));
    }
    let mut system = SystemPrompt::default();
    match field(fields, SYSTEM) {
        None | Some(Value::Null) => {}
        // A table has this column for every row.
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => system.text = Some(text.clone()),
        Some(other) => {
            let found = quoted(&other.to_string());
            return Err(format!("`system` is {found}; expected a text"));
        }
    }
    let mut turns = Vec::with_capacity(messages.len());
    for (number, message) in (1..).zip(messages) {
        let (speaker, text) = turn(message).map_err(|why| format!("message {number}{why}"))?;
        let expected = match turns.len() % 2 {
            0 => Speaker::User,
            _ => Speaker::Assistant,
        };
        if speaker == Speaker::System && number == 1 {
            if system.text.is_some() {
                return Err("it has both `system` and a message from `system`".to_owned());
            }
            system = SystemPrompt {
                text: Some(text.to_owned()),
                of_a_turn: true,
            };
        } else if speaker == Speaker::System {
            return Err(format!(
                "message {number} is from `system`, which only the first may be"
            ));
        } else if speaker != expected {
            return Err(format!(
                "message {number} is from {}, expected {}",
                speaker.names(),
                expected.names()
            ));
        } else {
            turns.push(text.to_owned());
        }
    }
    match turns.len() {
        0 => Err("the message from `system` is the only one".to_owned()),
        odd if odd % 2 == 1 => Err("its last message has no reply".to_owned()),
        _ => Ok((system, turns)),
    }
}

fn messages<'f>(fields: &'f [(String, Value)], others: &[String]) -> Result<&'f [Value], String> {
    let lists = LISTS.map(|key| (key, field(fields, key).filter(|list| !list.is_null())));
    let (key, list) = match lists {
        [(a, Some(_)), (b, Some(_))] => return Err(format!("it has both `{a}` and `{b}`")),
        [(key, Some(list)), _] | [_, (key, Some(list))] => (key, list),
        [(a, None), (b, None)] => {
            let keys: Vec<&str> = others.iter().map(String::as_str).collect();
            let near = merv_architectures::nearest::nearest(a, &keys)
                .or(merv_architectures::nearest::nearest(b, &keys));
            let near = near.map(|near| format!("; did you mean {}?", quoted(near)));
            let near = near.unwrap_or_default();
            return Err(format!("`{a}` (or `{b}`) is missing{near}"));
        }
    };
    match list {
        Value::Array(list) if list.is_empty() => Err(format!("`{key}` is empty")),
        Value::Array(list) => Ok(list),
        other => Err(format!(
            "`{key}` is {}; expected a list of messages",
            quoted(&other.to_string())
        )),
    }
}

/// Returns the speaker and the text of a message. The error is the text after `message 3`.
fn turn(message: &Value) -> Result<(Speaker, &str), String> {
    let Value::Object(message) = message else {
        return Err(format!(
            " is {}; expected an object with `from` and `value`, or `role` and `content`",
            quoted(&message.to_string())
        ));
    };
    for (key, value) in message {
        if media::is_medium(key, value) {
            return Err(format!(
                " has {}; expected an image or video next to the messages, not in one",
                quoted(key)
            ));
        }
    }
    let name = text(message, SPEAKERS)?;
    let speaker = Speaker::named(name).ok_or_else(|| {
        let known = [Speaker::User, Speaker::Assistant, Speaker::System].map(Speaker::names);
        format!(" is from {}; expected {}", quoted(name), known.join(", "))
    })?;
    Ok((speaker, text(message, TEXTS)?))
}

fn text<'m>(message: &'m Map<String, Value>, keys: [&str; 2]) -> Result<&'m str, String> {
    let [first, second] = keys;
    // A table with rows of both styles has both columns, one of them empty.
    let [one, other] = keys.map(|key| message.get(key).filter(|value| !value.is_null()));
    let (key, value) = match (one, other) {
        (Some(_), Some(_)) => {
            return Err(format!(
                " has both `{first}` and `{second}`; remove one of them"
            ));
        }
        (Some(value), None) => (first, value),
        (None, Some(value)) => (second, value),
        (None, None) => return Err(format!(" has neither `{first}` nor `{second}`")),
    };
    value.as_str().ok_or_else(|| {
        let found = quoted(&value.to_string());
        format!(": `{key}` is {found}; expected a text")
    })
}
