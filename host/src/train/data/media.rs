//! Which file an example shows. A key that somebody may have meant for it is refused, since the example
//! would be trained on without its video.

use crate::messages::shown;
use serde_json::Value;
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

/// The keys of media.
pub(super) const KEYS: [&str; 4] = ["image", "images", "video", "videos"];

/// The endings of media, which are also keys of some collections.
const VIDEOS: [&str; 10] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv",
];
const IMAGES: [&str; 9] = [
    "jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "avif",
];

/// Bytes of a key that can be another spelling of one of these at most.
const LONGEST: usize = 40;

/// Other keys that a message names.
const NAMED: usize = 5;

/// What follows the name of a medium in the key of a file.
const OF_A_FILE: [&str; 7] = ["path", "file", "filename", "name", "url", "uri", "dir"];

/// The marks in messages, and what they stand for. `<image>` stands for videos too, as in LLaVA-Video's data.
const MARKS: [(&str, Option<Modality>); 2] =
    [("<image>", None), ("<video>", Some(Modality::Video))];

/// Whether the example has a key of a medium with nothing in it, as tables have for rows of text alone.
pub(super) fn has_empty_key(example: &[(String, Value)]) -> bool {
    example.iter().any(|(key, value)| {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        KEYS.contains(&key.as_str()) && is_empty
    })
}

/// The image or video of an example.
///
/// # Errors
///
/// What is wrong with it, in a line.
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
            return Err(format!("unknown key {}: {remedy}", shown(key)));
        }
    }
    Ok(visual.map(|(_, modality, path)| (modality, path)))
}

/// The path that a key names; none where it says that there is none.
fn path(key: &str, value: &Value) -> Result<Option<PathBuf>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(path) if path.trim().is_empty() => Err(format!(
            "`{key}` is empty; expected a path, or no `{key}` at all"
        )),
        Value::String(path) => Ok(Some(path.into())),
        Value::Array(list) => match list.as_slice() {
            [] => Ok(None),
            [one @ Value::String(_)] => path(key, one),
            [other] => Err(format!(
                "`{key}` holds {}; expected a path",
                shown(&other.to_string())
            )),
            more => Err(format!(
                "`{key}` names {} files; expected one: an example shows one image or one video",
                more.len()
            )),
        },
        other => Err(format!(
            "`{key}` is {}; expected a path",
            shown(&other.to_string())
        )),
    }
}

/// What a key may have been meant as.
struct Meaning {
    /// What to do about it.
    remedy: &'static str,
    certainty: Certainty,
    /// Whether it is more than another spelling: `video_path`.
    of_a_file: bool,
}

/// What makes a key mean a medium.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// Nothing else goes by its name.
    Name,
    /// Its name, if the value looks like that of a file.
    File,
    /// The value alone, if that looks like the file of a medium: texts have a `path` or `url` too.
    Medium,
}

/// Whether the value of a key matters here.
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
        "audio" | "sound" | "speech" => ("models here see, and do not hear", Certainty::File),
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

/// Whether a name is another one with a single slip: a letter too many, too few, wrong, or exchanged with the next.
fn is_slip(name: &str, meant: &str) -> bool {
    name.len().abs_diff(meant.len()) <= 1 && strsim::damerau_levenshtein(name, meant) == 1
}

/// Whether a key of a message means a medium, which belongs beside the messages.
pub(super) fn is_medium(key: &str, value: &Value) -> bool {
    KEYS.contains(&key) || misnamed(key, value, false).is_some()
}

/// What to do about a key that seems to mean the medium. Beside a medium only another spelling of its key is
/// suspicious, and all else is what somebody notes about it.
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

/// Whether a value could be the path of a file, or some.
fn names_something(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => list.iter().any(names_something),
        Value::Object(_) => true,
        _ => false,
    }
}

/// Whether a value looks like the name of a file: with a folder before it or an ending behind it.
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

/// Whether a value names the file of an image or a video.
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

/// Checks that the marks in the messages, `(number, text, whether it is a reply)`, are those of what the example
/// shows. One of its `other` keys may have been meant for a medium.
///
/// # Errors
///
/// What is wrong with them, in a line.
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
                        "message {number}, a reply, holds `{mark}`; expected it in a message of the user: move it \
                         there, or remove it"
                    ));
                }
                None => {
                    let others: Vec<String> =
                        others.iter().take(NAMED).map(|key| shown(key)).collect();
                    let others = match others.is_empty() {
                        true => String::new(),
                        false => format!("; its other keys are {}", others.join(", ")),
                    };
                    return Err(format!(
                        "message {number} holds `{mark}`, but the example has neither `image` nor `video` with a \
                         file in it{others}"
                    ));
                }
                Some(visual) if of.is_some_and(|of| of != visual) => {
                    return Err(format!(
                        "message {number} holds `{mark}`, but the example shows an image"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    match found {
        0 | 1 => Ok(()),
        more => Err(format!(
            "its messages hold {more} marks, such as `<video>`; expected one at most, for an example shows one \
             image or one video"
        )),
    }
}
