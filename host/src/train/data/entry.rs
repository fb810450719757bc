//! One example as the JSON file has it, checked.

use super::media;
use crate::shown::{shortened, shown};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::{collections::HashSet, fmt, path::PathBuf};

/// The lists that may hold the messages, and the keys of a message in each style: LLaVA's, OpenAI's.
const LISTS: [&str; 2] = ["conversations", "messages"];
const SPEAKERS: [&str; 2] = ["from", "role"];
const TEXTS: [&str; 2] = ["value", "content"];

/// The key of a system prompt.
const SYSTEM: &str = "system";

/// Other keys of an example that are remembered, to find a misspelt one among them.
const MAX_OTHERS: usize = 32;

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
    /// The system prompt that its conversation begins with, if it has one.
    pub system: Option<String>,
    /// Question, reply, question, reply and so on.
    pub turns: Vec<String>,
    /// Whether it shows nothing because the key of its medium is `null` or an empty list.
    pub has_empty_medium: bool,
}

/// What is wrong with an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In a line.
    pub why: String,
    /// Where it is no JSON: the line and the column in it, from 1 on.
    pub place: Option<(usize, usize)>,
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self { why, place: None }
    }
}

impl Example {
    /// Reads the JSON of one example.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, Fault> {
        let Object { fields, others } = serde_json::from_slice(json).map_err(|error| {
            let text = error.to_string();
            let why = text.rsplit_once(" at line ").map_or(&*text, |(why, _)| why);
            Fault {
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
        media::check_marks(shows, said)?;
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

    /// What it shows.
    pub fn modality(&self) -> Modality {
        let visual = self.visual.as_ref();
        visual.map_or(Modality::Text, |(modality, _)| *modality)
    }
}

/// What matters of the JSON object of an example. What others add to it is passed over, whatever it is.
struct Object {
    /// By key; none is there twice.
    fields: Vec<(String, Value)>,
    /// Some of the other keys.
    others: Vec<String>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an example, `{…}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let (mut fields, mut others) = (Vec::new(), Vec::new());
                let mut seen = HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !matters(&key) {
                        map.next_value::<IgnoredAny>()?;
                        if others.len() < MAX_OTHERS {
                            others.push(key);
                        }
                    } else if seen.insert(key.clone()) {
                        fields.push((key, map.next_value()?));
                    } else {
                        let why = format!("the key {} is there twice", shown(&key));
                        return Err(serde::de::Error::custom(why));
                    }
                }
                Ok(Object { fields, others })
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

/// Whether a key is another spelling of `system`, such as `System` or `system_prompt`.
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

/// A system prompt, and whether it is the first message.
#[derive(Default)]
struct System {
    text: Option<String>,
    of_a_turn: bool,
}

/// Who says a message.
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

    /// What LLaVA's format calls it.
    fn names(self) -> &'static str {
        match self {
            Self::System => "`system`",
            Self::User => "`human` or `user`",
            Self::Assistant => "`gpt` or `assistant`",
        }
    }
}

/// The system prompt, and the messages in turns.
fn conversation(
    fields: &[(String, Value)],
    others: &[String],
) -> Result<(System, Vec<String>), String> {
    let messages = messages(fields, others)?;
    let holds_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let mut misnamed = fields.iter().filter(|(key, _)| is_another_system(key));
    if let Some((key, _)) = misnamed.find(|(_, value)| holds_text(value)) {
        return Err(format!("unknown key {}: write `{SYSTEM}`", shown(key)));
    }
    let mut system = System::default();
    match field(fields, SYSTEM) {
        None | Some(Value::Null) => {}
        // A column that a table has for all.
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => system.text = Some(text.clone()),
        Some(other) => {
            let found = shown(&other.to_string());
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
            system = System {
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
        0 => Err("there is no message after that from `system`".to_owned()),
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
            let near = crate::nearest::nearest(a, &keys).or(crate::nearest::nearest(b, &keys));
            let near = near.map(|near| format!("; did you mean {}?", shown(near)));
            let near = near.unwrap_or_default();
            return Err(format!("its `{a}` (or `{b}`) are missing{near}"));
        }
    };
    match list {
        Value::Array(list) if list.is_empty() => Err(format!("its `{key}` are empty")),
        Value::Array(list) => Ok(list),
        other => Err(format!(
            "`{key}` is {}; expected a list of messages",
            shown(&other.to_string())
        )),
    }
}

/// Who says a message, and what; or what follows `message 3` in an error.
fn turn(message: &Value) -> Result<(Speaker, &str), String> {
    let Value::Object(message) = message else {
        return Err(format!(
            " is {}; expected an object with `from` and `value`, or `role` and `content`",
            shown(&message.to_string())
        ));
    };
    for (key, value) in message {
        if media::is_medium(key, value) {
            return Err(format!(
                " has {}; expected a medium beside the messages, not in one",
                shown(key)
            ));
        }
    }
    let name = text(message, SPEAKERS)?;
    let speaker = Speaker::named(name).ok_or_else(|| {
        let known = [Speaker::User, Speaker::Assistant, Speaker::System].map(Speaker::names);
        format!(" is from {}; expected {}", shown(name), known.join(", "))
    })?;
    Ok((speaker, text(message, TEXTS)?))
}

fn text<'m>(message: &'m Map<String, Value>, keys: [&str; 2]) -> Result<&'m str, String> {
    let [first, second] = keys;
    // A table that joins both styles has both columns, of which one is empty.
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
        let found = shown(&value.to_string());
        format!(": `{key}` is {found}; expected a text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(json: &str) -> String {
        match Example::parse(json.as_bytes()) {
            Ok(example) => format!("taken as {example:?}"),
            Err(fault) => fault.why,
        }
    }

    /// An example with these keys beside two messages, of which the first holds `marks`.
    fn with(keys: &str, marks: &str) -> String {
        format!(
            r#"{{{keys} "conversations": [{{"from": "human", "value": "{marks}What?"}},
            {{"from": "gpt", "value": "That, not a video."}}]}}"#
        )
    }

    #[test]
    fn an_example_is_read_with_what_others_add_to_it() {
        let json = br#"{"id": 7, "video": "a/b.mp4", "source": {"x": [1]}, "video_id": "v_1", "system": "",
            "clip": "00:10", "conversations": [
            {"from": "human", "value": "<video>\nWhat?", "more": 1}, {"from": "gpt", "value": "That."}]}"#;
        let example = Example::parse(json).unwrap();
        assert_eq!((example.id.as_str(), &example.system), ("7", &None));
        assert_eq!(example.modality(), Modality::Video);
        assert_eq!(example.turns, ["<video>\nWhat?", "That."]);
    }

    #[test]
    fn each_style_says_the_same() {
        for (speaker, text, names) in [
            ("from", "value", ["system", "human", "gpt"]),
            ("role", "content", ["system", "user", "assistant"]),
        ] {
            for list in ["conversations", "messages"] {
                let [system, user, assistant] = names;
                let json = format!(
                    r#"{{"videos": ["v.mp4"], "images": [], "{list}": [
                    {{"{speaker}": "{system}", "{text}": "Be kind."}}, {{"{speaker}": "{user}", "{text}": "a"}},
                    {{"{speaker}": "{assistant}", "{text}": "b"}}]}}"#
                );
                let example = Example::parse(json.as_bytes()).unwrap();
                assert_eq!(example.system.as_deref(), Some("Be kind."));
                assert_eq!(example.turns, ["a", "b"]);
                assert_eq!(example.visual, Some((Modality::Video, "v.mp4".into())));
            }
        }
        let beside = Example::parse(with(r#""system": "Be kind.","#, "").as_bytes()).unwrap();
        assert_eq!(beside.system.as_deref(), Some("Be kind."));
    }

    #[test]
    fn media_are_understood_or_refused_but_never_passed_over() {
        let image = Some((Modality::Image, "a.jpg".into()));
        for keys in [
            r#""image": "a.jpg","#,
            r#""image": ["a.jpg"],"#,
            r#""images": ["a.jpg"], "videos": [], "video": null,"#,
            r#""image": "a.jpg", "image_id": 3, "image_path": "/x/a.jpg", "clip": "x.mp4","#,
        ] {
            let example = Example::parse(with(keys, "<image>\\n").as_bytes());
            assert_eq!(example.unwrap().visual, image, "{keys}");
        }
        for (keys, word) in [
            (
                r#""image": "a.jpg", "video": "b.mp4","#,
                "both `image` and `video`",
            ),
            (
                r#""image": "a.jpg", "images": ["a.jpg"],"#,
                "both `image` and `images`",
            ),
            (
                r#""video": "a.mp4", "Image": "b.jpg","#,
                "`Image`: write `image`",
            ),
            (
                r#""videos": ["a.mp4", "b.mp4"],"#,
                "`videos` names 2 files; expected one",
            ),
            (r#""video": "","#, "`video` is empty"),
            (r#""video": [" "],"#, "`video` is empty"),
            (r#""video": 7,"#, "`video` is `7`; expected a path"),
            (r#""video": [7],"#, "`video` holds `7`; expected a path"),
            (r#""image": {"path": "a.jpg"},"#, "expected a path"),
            (r#""img": "a.jpg","#, "unknown key `img`: write `image`"),
            (r#""Video": "a.mp4","#, "unknown key `Video`: write `video`"),
            (r#""video_path": "a.mp4","#, "`video_path`: write `video`"),
            (r#""imageFiles": ["a.jpg"],"#, "`imageFiles`: write `image`"),
            (r#""picture": "a.jpg","#, "`picture`: write `image`"),
            (r#""media": ["a/b"],"#, "`media`: write `image` or `video`"),
            (r#""audio": "a.wav","#, "`audio`: models here see"),
            (r#""vidoe": "a.mp4","#, "unknown key `vidoe`: write `video`"),
            (r#""vedios": ["a.mp4"],"#, "`vedios`: write `video`"),
            (r#""imge": "a.jpg","#, "`imge`: write `image`"),
            (r#""vidoe_path": "a","#, "`vidoe_path`: write `video`"),
            (r#""path": "a.mp4","#, "`path`: write `image` or `video`"),
            (r#""file_name": "x/a.JPG","#, "`file_name`: write `image`"),
            (
                r#""url": "https://x.org/a.webm?b=1","#,
                "`url`: write `image` or",
            ),
            (r#""mp4": "a.mp4","#, "`mp4`: write `video`"),
            (r#""jpg": "a.jpg","#, "`jpg`: write `image`"),
            (r#""System": "Be kind.","#, "`System`: write `system`"),
            (
                r#""system_prompt": "Be.","#,
                "`system_prompt`: write `system`",
            ),
            (
                r#""video": "a.mp4", "video": "b.mp4","#,
                "`video` is there twice",
            ),
        ] {
            let found = why(&with(keys, ""));
            assert!(found.contains(word), "{keys}: {found}");
        }
        // Metadata about a text is not a medium.
        for keys in [
            r#""media": "radio","#,
            r#""clip": [1, 2],"#,
            r#""image_id": 3,"#,
            r#""url": "https://x.org/wiki/Video","#,
            r#""path": "src/main.rs", "file": "notes.txt","#,
            r#""source": "web", "data_source": "a/b", "length": 3, "metadata": {"video": "a.mp4"},"#,
            r#""usage": {"tokens": 3}, "page": 7, "stage": "x", "language": "en", "System": null,"#,
        ] {
            let example = Example::parse(with(keys, "").as_bytes()).unwrap();
            assert_eq!(example.visual, None, "{keys}");
            assert!(!example.has_empty_medium, "{keys}");
        }
        // Beside a medium a path is what somebody notes about it.
        let keys = r#""video": "a.mp4", "path": "/data/a.mp4", "url": "https://x.org/a.mp4","#;
        assert!(why(&with(keys, "")).starts_with("taken"));
        // A table of videos and texts has such a column for the texts.
        for keys in [r#""videos": null,"#, r#""video": [],"#] {
            let example = Example::parse(with(keys, "").as_bytes()).unwrap();
            assert!(example.has_empty_medium, "{keys}");
            let found = why(&with(keys, "<video>"));
            assert!(
                found.contains("neither `image` nor `video` with a file"),
                "{found}"
            );
        }
    }

    #[test]
    fn marks_are_those_of_the_media() {
        let (image, video) = (r#""image": "a.jpg","#, r#""video": "a.mp4","#);
        // `<image>` stands for a video in LLaVA-Video's data.
        for (keys, marks) in [(image, "<image>\\n"), (video, "<image> "), (video, "")] {
            let found = why(&with(keys, marks));
            assert!(found.starts_with("taken"), "{found}");
        }
        for (keys, marks, word) in [
            (
                "",
                "<video>\\n",
                "message 1 holds `<video>`, but the example has neither",
            ),
            (
                "",
                "a <image> ",
                "message 1 holds `<image>`, but the example has neither",
            ),
            (
                image,
                "<video>\\n",
                "`<video>`, but the example shows an image",
            ),
            (video, "<video><video>", "2 marks"),
            (video, "<video><image>", "2 marks"),
        ] {
            let found = why(&with(keys, marks));
            assert!(found.contains(word), "{keys} {marks}: {found}");
        }
        let later = r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}, {"role": "user", "content": "<video>"},
            {"role": "assistant", "content": "c"}]}"#;
        assert!(why(later).starts_with("message 4 holds"), "{}", why(later));
    }

    #[test]
    fn what_cannot_be_trained_on_says_why() {
        let cases = [
            (
                r#"{"id": "a"}"#,
                "its `conversations` (or `messages`) are missing",
            ),
            (r#"{"conversation": []}"#, "did you mean `conversation`?"),
            (r#"{"conversations": []}"#, "its `conversations` are empty"),
            (
                r#"{"conversations": [], "messages": []}"#,
                "both `conversations` and `messages`",
            ),
            (
                r#"{"conversations": 3}"#,
                "`conversations` is `3`; expected a list",
            ),
            (
                r#"{"conversations": [{"from": "human", "value": ""}]}"#,
                "its last message has no reply",
            ),
            (
                r#"{"conversations": [{"from": "gpt", "value": ""}, {"from": "gpt", "value": ""}]}"#,
                "message 1 is from `gpt` or `assistant`, expected `human` or `user`",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}"#,
                "message 2 is from `tool`; expected `human` or `user`, `gpt` or `assistant`, `system`",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}"#,
                "message 2 is from `system`, which only the first may be",
            ),
            (
                r#"{"messages": [{"role": "system", "content": "a"}]}"#,
                "no message after that from `system`",
            ),
            (
                r#"{"system": "a", "messages": [{"role": "system", "content": "a"}]}"#,
                "both `system` and a message from `system`",
            ),
            (
                r#"{"system": 3, "messages": [{}]}"#,
                "`system` is `3`; expected a text",
            ),
            (
                r#"{"messages": [3]}"#,
                "message 1 is `3`; expected an object",
            ),
            (
                r#"{"messages": [{"role": "user"}]}"#,
                "message 1 has neither `value` nor `content`",
            ),
            (
                r#"{"messages": [{"from": "human", "role": "user", "content": "a"}]}"#,
                "message 1 has both `from` and `role`",
            ),
            (
                r#"{"messages": [{"from": "human", "value": "a", "content": "b"}]}"#,
                "message 1 has both `value` and `content`",
            ),
            (
                r#"{"messages": [{"from": "System", "value": "a"}]}"#,
                "message 1 is from `System`; expected",
            ),
            (
                r#"{"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "A <video>."}]}"#,
                "message 2, a reply, holds `<video>`",
            ),
            (
                r#"{"video": "a.mp4", "messages": [{"from": "human", "value": "a"},
                {"from": "gpt", "value": "<image>"}]}"#,
                "message 2, a reply, holds `<image>`",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "", "vidoe": "a.mp4"}]}"#,
                "message 1 has `vidoe`; expected a medium beside the messages",
            ),
            (
                r#"{"messages": [{"content": ""}]}"#,
                "message 1 has neither `from` nor `role`",
            ),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "text"}]}]}"#,
                "message 1: `content` is `[{\"type\":\"text\"}]`; expected a text",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "", "images": ["a"]}]}"#,
                "message 1 has `images`; expected a medium beside the messages",
            ),
            ("[1]", "expected an example"),
            ("{", "EOF"),
        ];
        for (json, word) in cases {
            let found = why(json);
            assert!(found.contains(word), "{json}: {found}");
        }
    }

    #[test]
    fn what_others_add_costs_no_more_than_reading_it() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let many: String = (0..200_000)
            .map(|n| format!(r#""k{n}": 1e999, "#))
            .collect();
        let spelled: String = (1..20_000)
            .map(|n| {
                format!(
                    r#""{}image{}": 1, "#,
                    "-".repeat(n % 30),
                    "_".repeat(n / 30)
                )
            })
            .collect();
        for more in [format!(r#""a": {deep}, "b": "\ud800","#), many, spelled] {
            let started = std::time::Instant::now();
            let found = why(&with(&more, ""));
            assert!(
                found.starts_with("taken") || found.contains("twice"),
                "{found}"
            );
            assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        }
    }

    #[test]
    fn long_values_are_cut() {
        let long = "ä".repeat(1 << 20);
        for json in [
            format!(r#"{{"video": {{"{long}": 1}}}}"#),
            format!(r#"{{"messages": [{{"role": "{long}", "content": ""}}]}}"#),
            format!(r#"{{"Video{long}": "a", "messages": "{long}"}}"#),
            format!(r#""{long}""#),
        ] {
            let found = why(&json);
            assert!(found.chars().count() < 600, "{}", found.chars().count());
        }
    }
}
