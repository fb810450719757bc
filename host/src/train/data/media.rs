//! Finds the image or video of an example. A key that looks like a misspelt `image` or `video` is refused,
//! because the example would otherwise be trained on without it.

use crate::messages::quoted;
use serde_json::Value;
use std::path::PathBuf;

/// The kind of an example. All examples of a batch have the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modality {
    /// Only text.
    Text,
    /// A still image.
    Image,
    /// A video.
    Video,
}

/// The keys of media.
pub(super) const KEYS: [&str; 4] = ["image", "images", "video", "videos"];

/// The file extensions of videos and images. Some data sets use them as keys.
const VIDEOS: [&str; 10] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv",
];
const IMAGES: [&str; 9] = [
    "jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "avif",
];

/// Maximum length in bytes of a key that is checked for another spelling.
const LONGEST: usize = 40;

/// Maximum number of other keys that an error lists.
const NAMED: usize = 5;

/// The suffixes of keys such as `video_path`.
const OF_A_FILE: [&str; 7] = ["path", "file", "filename", "name", "url", "uri", "dir"];

/// The marks in messages, and what they stand for. `<image>` stands for videos too, as in LLaVA-Video's data.
const MARKS: [(&str, Option<Modality>); 2] =
    [("<image>", None), ("<video>", Some(Modality::Video))];

/// Returns whether the example has an empty `image` or `video`, as a table has for rows that are only text.
pub(super) fn has_empty_key(example: &[(String, Value)]) -> bool {
    example.iter().any(|(key, value)| {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        KEYS.contains(&key.as_str()) && is_empty
    })
}

/// Returns the image or video of an example.
///
/// # Errors
///
/// What is wrong with it, in one line.
pub(super) fn visual(example: &[(String, Value)]) -> Result<Option<(Modality, PathBuf)>, String> {
    let mut visual: Option<(&str, Modality, PathBuf)> = None;
    for (key, value) in example {
        let modality = match key.as_str() {
            "image" | "images" => Modality::Image,
            "video" | "videos" => Modality::Video,
            _ => continue,
        };
        let Some(path) = path(key, value)? else {
            continue;
        };
        if let Some((other, ..)) = visual.replace((key, modality, path)) {
            return Err(format!(
                "it has both `{other}` and `{key}`; expected one image or one video"
            ));
        }
    }
    for (key, value) in example {
        if let Some(remedy) = misnamed(key, value, visual.is_some()) {
            return Err(format!("unknown key {}: {remedy}", quoted(key)));
        }
    }
    Ok(visual.map(|(_, modality, path)| (modality, path)))
}

/// Returns the path in the value of a key, or `None` if the value is empty.
fn path(key: &str, value: &Value) -> Result<Option<PathBuf>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(path) if path.trim().is_empty() => {
            Err(format!("`{key}` is empty; expected a path, or no `{key}`"))
        }
        Value::String(path) => Ok(Some(path.into())),
        Value::Array(list) => match list.as_slice() {
            [] => Ok(None),
            [one @ Value::String(_)] => path(key, one),
            [other] => Err(format!(
                "`{key}` contains {}; expected a path",
                quoted(&other.to_string())
            )),
            more => Err(format!(
                "`{key}` lists {} files; expected one: an example has one image or one video",
                more.len()
            )),
        },
        other => Err(format!(
            "`{key}` is {}; expected a path",
            quoted(&other.to_string())
        )),
    }
}

/// The probable meaning of a key.
struct Meaning {
    /// What to do about it.
    remedy: &'static str,
    certainty: Certainty,
    /// Whether the key has a suffix, as in `video_path`.
    of_a_file: bool,
}

/// The evidence that a key means an image or video.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// The name of the key is enough.
    Name,
    /// The name of the key, if the value looks like a file.
    File,
    /// The value, if it looks like an image or video file. Texts have a `path` or `url` too.
    Medium,
}

/// Returns whether the value of a key is needed here.
pub(super) fn concerns(key: &str) -> bool {
    KEYS.contains(&key) || meaning(key).is_some()
}

fn meaning(key: &str) -> Option<Meaning> {
    if key.len() > LONGEST {
        return None;
    }
    let plain: String = key
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    let one = |name: &str| name.strip_suffix('s').unwrap_or(name).to_owned();
    let singular = one(&plain);
    let medium = OF_A_FILE.iter().find_map(|end| singular.strip_suffix(end));
    let medium = medium.filter(|medium| !medium.is_empty()).map(one);
    let (image, video) = ("write `image`", "write `video`");
    let either = "write `image` or `video`";
    let (remedy, certainty) = match medium.as_deref().unwrap_or(&singular) {
        "image" | "img" => (image, Certainty::Name),
        "video" | "vid" | "vedio" => (video, Certainty::Name),
        "picture" | "pic" | "photo" => (image, Certainty::File),
        "clip" | "movie" | "film" | "frame" => (video, Certainty::File),
        "media" | "medium" | "visual" => (either, Certainty::File),
        "audio" | "sound" | "speech" => (
            "the models do not process sound; remove it",
            Certainty::File,
        ),
        "path" | "file" | "filename" | "filepath" | "url" | "uri" | "src" => {
            (either, Certainty::Medium)
        }
        ending if VIDEOS.contains(&ending) => (video, Certainty::Medium),
        ending if IMAGES.contains(&ending) => (image, Certainty::Medium),
        name if is_slip(name, "image") => (image, Certainty::Name),
        name if is_slip(name, "video") => (video, Certainty::Name),
        _ => return None,
    };
    Some(Meaning {
        remedy,
        certainty,
        of_a_file: medium.is_some(),
    })
}

/// Returns whether a name differs from another by one typing error: an extra, missing or wrong letter, or two
/// swapped letters.
fn is_slip(name: &str, meant: &str) -> bool {
    name.len().abs_diff(meant.len()) <= 1 && strsim::damerau_levenshtein(name, meant) == 1
}

/// Returns whether a key of a message means an image or video, which belongs next to the messages.
pub(super) fn is_medium(key: &str, value: &Value) -> bool {
    KEYS.contains(&key) || misnamed(key, value, false).is_some()
}

/// Returns what to do about a key that seems to mean an image or video. If the example already has one, only
/// another spelling is refused; other keys are metadata.
fn misnamed(key: &str, value: &Value, has_visual: bool) -> Option<&'static str> {
    if KEYS.contains(&key) || !names_something(value) {
        return None;
    }
    let Meaning {
        remedy,
        certainty,
        of_a_file,
    } = meaning(key)?;
    let is_meant = match (has_visual, certainty) {
        (true, certainty) => certainty == Certainty::Name && !of_a_file,
        (false, Certainty::Name) => true,
        (false, Certainty::File) => is_a_file(value),
        (false, Certainty::Medium) => is_a_medium(value),
    };
    is_meant.then_some(remedy)
}

/// Returns whether a value could be the path of one or more files.
fn names_something(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => list.iter().any(names_something),
        Value::Object(_) => true,
        _ => false,
    }
}

/// Returns whether a value looks like the name of a file, because it has a folder or an extension.
fn is_a_file(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let ending = text.rsplit_once('.').map_or("", |(_, ending)| ending);
            let is_ending = (2..=5).contains(&ending.len())
                && ending.chars().all(|c| c.is_ascii_alphanumeric());
            is_ending || (text.contains('/') && !text.contains(' '))
        }
        Value::Array(list) => list.iter().any(is_a_file),
        _ => false,
    }
}

/// Returns whether a value is the name of an image or video file.
fn is_a_medium(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let path = text.split(['?', '#']).next().unwrap_or_default();
            let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
            let ending = ending.to_ascii_lowercase();
            [&VIDEOS[..], &IMAGES].concat().contains(&ending.as_str())
        }
        Value::Array(list) => list.iter().any(is_a_medium),
        _ => false,
    }
}

/// Checks that the marks in the messages, `(number, text, whether it is a reply)`, match the image or video of the
/// example. An error lists the `others` keys, because one of them may be meant as the image or video.
///
/// # Errors
///
/// What is wrong with them, in one line.
pub(super) fn check_marks<'m>(
    visual: Option<Modality>,
    others: &[String],
    messages: impl Iterator<Item = (usize, &'m str, bool)>,
) -> Result<(), String> {
    let mut found = 0;
    for (number, message, is_reply) in messages {
        for (mark, of) in MARKS {
            let count = message.matches(mark).count();
            found += count;
            match visual {
                _ if count == 0 => {}
                _ if is_reply => {
                    return Err(format!(
                        "message {number}, a reply, contains `{mark}`; expected it in a message of the user: move it \
                         there, or remove it"
                    ));
                }
                None => {
                    let others: Vec<String> =
                        others.iter().take(NAMED).map(|key| quoted(key)).collect();
                    let others = match others.is_empty() {
                        true => String::new(),
                        false => format!("; its other keys are {}", others.join(", ")),
                    };
                    return Err(format!(
                        "message {number} contains `{mark}`, but the example has neither `image` nor `video` with a \
                         file{others}"
                    ));
                }
                Some(visual) if of.is_some_and(|of| of != visual) => {
                    return Err(format!(
                        "message {number} contains `{mark}`, but the example has an image"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    match found {
        0 | 1 => Ok(()),
        more => Err(format!(
            "its messages contain {more} marks, such as `<video>`; expected at most one, because an example has one \
             image or one video"
        )),
    }
}
