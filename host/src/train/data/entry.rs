//! One example as the JSON file has it, checked.

use serde::Deserialize;
use std::path::PathBuf;

/// What an example shows. Batches hold one kind each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modality {
    /// Nothing.
    Text,
    /// A still image.
    Image,
    /// A video.
    Video,
}

/// An example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its `id`; empty if it has none.
    pub id: String,
    /// The image or video, as the file names it.
    pub visual: Option<(Modality, PathBuf)>,
    /// Question, reply, question, reply and so on.
    pub turns: Vec<String>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    id: serde_json::Value,
    image: Option<PathBuf>,
    video: Option<PathBuf>,
    #[serde(default)]
    conversations: Vec<RawTurn>,
}

#[derive(Deserialize)]
struct RawTurn {
    from: String,
    value: String,
}

impl Example {
    /// Reads the JSON of one example.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a line.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let visual = match (raw.image, raw.video) {
            (Some(_), Some(_)) => return Err("it has both an image and a video".to_owned()),
            (Some(path), None) => Some((Modality::Image, path)),
            (None, Some(path)) => Some((Modality::Video, path)),
            (None, None) => None,
        };
        if raw.conversations.is_empty() {
            return Err("its `conversations` are missing or empty".to_owned());
        }
        if raw.conversations.len() % 2 == 1 {
            return Err("its last message has no reply".to_owned());
        }
        for (number, turn) in raw.conversations.iter().enumerate() {
            let expected = if number % 2 == 0 { "human" } else { "gpt" };
            if turn.from != expected {
                return Err(format!(
                    "message {} is from `{}`, expected `{expected}`",
                    number + 1,
                    turn.from
                ));
            }
        }
        Ok(Self {
            id: match raw.id {
                serde_json::Value::String(id) => id,
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            },
            visual,
            turns: raw
                .conversations
                .into_iter()
                .map(|turn| turn.value)
                .collect(),
        })
    }

    /// What it shows.
    pub fn modality(&self) -> Modality {
        let visual = self.visual.as_ref();
        visual.map_or(Modality::Text, |(modality, _)| *modality)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_read_with_what_others_add_to_it() {
        let json = br#"{"id": 7, "video": "a/b.mp4", "source": {"x": [1]}, "conversations": [
            {"from": "human", "value": "<video>\nWhat?", "more": 1}, {"from": "gpt", "value": "That."}]}"#;
        let example = Example::parse(json).unwrap();
        assert_eq!(example.id, "7");
        assert_eq!(example.modality(), Modality::Video);
        assert_eq!(example.turns, ["<video>\nWhat?", "That."]);
    }

    #[test]
    fn what_cannot_be_trained_on_says_why() {
        let cases = [
            (r#"{"id": "a"}"#, "missing or empty"),
            (
                r#"{"image": "a", "video": "b", "conversations": []}"#,
                "both an image and a video",
            ),
            (
                r#"{"conversations": [{"from": "human", "value": ""}]}"#,
                "no reply",
            ),
            (
                r#"{"conversations": [{"from": "gpt", "value": ""}, {"from": "gpt", "value": ""}]}"#,
                "message 1 is from `gpt`, expected `human`",
            ),
            (r#"{"conversations": 3}"#, "expected a sequence"),
            ("[1]", "invalid"),
        ];
        for (json, word) in cases {
            let error = Example::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{json}: {error}");
        }
    }
}
