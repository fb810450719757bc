//! Checksums inside of text files, so that what a disk, a copy or a person has changed is not taken for what
//! was written. JSON objects get a last field `crc32`, TOML files a last comment; other readers pass over
//! both. The checksum is that of the text before it.

use std::fmt;

/// How a TOML file's last line begins.
const TOML: &str = "# crc32: ";

/// The field of a JSON object's checksum.
pub(crate) const FIELD: &str = "crc32";

/// Hexadecimal digits of a checksum.
const DIGITS: usize = 8;

/// What a checksum says of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// It is what was written.
    Whole,
    /// It has none: an earlier version wrote it, or another program.
    None,
    /// It is not what was written.
    Broken,
}

impl Seal {
    /// Whether it is what was written, as far as one can tell.
    pub(crate) fn is_sound(self) -> bool {
        self != Self::Broken
    }
}

/// What is said of a broken seal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mismatch;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its checksum does not match: it was damaged or edited after it was written")
    }
}

/// A JSON object, on one line or on several, with its checksum. Anything else is returned as it is.
pub(crate) fn seal_json(object: &str) -> String {
    let Some(body) = object.trim_end().strip_suffix('}') else {
        return object.to_owned();
    };
    let (body, checksum) = (body.trim_end(), checksum(body));
    let empty = body.ends_with('{');
    match (body.contains('\n'), empty) {
        (true, _) => format!("{body},\n  \"crc32\": \"{checksum}\"\n}}"),
        (false, false) => format!("{body},\"crc32\":\"{checksum}\"}}"),
        (false, true) => format!("{body}\"crc32\":\"{checksum}\"}}"),
    }
}

/// Looks at the checksum of a JSON object.
pub(crate) fn check_json(object: &str) -> Seal {
    match split_json(object) {
        Some((body, stated)) if stated == checksum(body) => Seal::Whole,
        Some(_) => Seal::Broken,
        // The field is there, but not as it was written.
        None if object.trim_end().ends_with('}') && object.contains("\"crc32\"") => Seal::Broken,
        None => Seal::None,
    }
}

/// The text before the checksum, and the checksum.
fn split_json(object: &str) -> Option<(&str, &str)> {
    let rest = object.trim_end().strip_suffix('}')?.trim_end();
    let rest = rest.strip_suffix('"')?;
    let (rest, stated) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let rest = rest.strip_suffix('"')?.trim_end();
    let rest = rest.strip_suffix(':')?.trim_end();
    let rest = rest.strip_suffix("\"crc32\"")?.trim_end();
    Some((rest.strip_suffix(',').unwrap_or(rest).trim_end(), stated))
}

/// A TOML text with its checksum.
pub(crate) fn seal_toml(text: &str) -> String {
    let line_break = if text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{line_break}");
    format!("{text}{TOML}{}\n", checksum(&text))
}

/// A TOML text without its checksum.
pub(crate) fn unsealed_toml(text: &str) -> &str {
    match check_toml(text) {
        Seal::None => text,
        _ => text.rfind(TOML).map_or(text, |at| &text[..at]),
    }
}

/// Looks at the checksum of a TOML text.
pub(crate) fn check_toml(text: &str) -> Seal {
    match text.rfind(TOML) {
        Some(at) if text[at + TOML.len()..].trim_end() == checksum(&text[..at]) => Seal::Whole,
        Some(_) => Seal::Broken,
        None => Seal::None,
    }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.trim_end().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: [&str; 4] = [
        r#"{"a":1,"b":"é}"}"#,
        "{\n  \"a\": 1\n}\n",
        "{}",
        r#"{"a": {"b": []} }"#,
    ];

    #[test]
    fn a_sealed_object_is_an_object_with_one_field_more() {
        for object in OBJECTS {
            let sealed = seal_json(object);
            let mut value: serde_json::Value = serde_json::from_str(&sealed).unwrap();
            assert!(value.as_object_mut().unwrap().remove("crc32").is_some());
            let before: serde_json::Value = serde_json::from_str(object).unwrap();
            assert_eq!(value, before);
            assert_eq!(check_json(&sealed), Seal::Whole, "{sealed}");
            assert_eq!(check_json(object), Seal::None);
        }
    }

    #[test]
    fn no_flipped_bit_passes() {
        let seals = OBJECTS.map(|object| (seal_json(object), check_json as fn(&str) -> Seal));
        let toml = seal_toml("[align]\nepochs = 3");
        assert_eq!(check_toml(&toml), Seal::Whole);
        assert_eq!(check_toml("[align]\n"), Seal::None);
        for (text, check) in seals.into_iter().chain([(toml, check_toml as _)]) {
            assert_eq!(check(&text), Seal::Whole);
            for at in 0..text.len() * 8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at / 8] ^= 1 << (at % 8);
                let Ok(flipped) = String::from_utf8(bytes) else {
                    continue;
                };
                let parsed = serde_json::from_str::<serde_json::Value>(&flipped);
                // White space at the end does not count as content.
                let same = flipped.trim_end() == text.trim_end();
                // Where the name of the field is hit, the rest is what it was.
                let name = check(&flipped) == Seal::None;
                assert!(
                    check(&flipped) == Seal::Broken || same || name || parsed.is_err(),
                    "{flipped}"
                );
            }
        }
    }

    #[test]
    fn what_another_program_wrote_anew_is_told_apart() {
        let sealed = seal_json(r#"{"a":1,"b":2}"#);
        // Python's spaces.
        let anew = sealed.replace(':', ": ").replace(',', ", ");
        assert_eq!(check_json(&anew), Seal::Broken);
        assert!(!check_json(&anew).is_sound());
    }
}
