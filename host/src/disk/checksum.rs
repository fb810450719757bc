//! Checksums inside text files. They detect files that were damaged or edited after they were written. A JSON
//! object gets a last field `crc32`, a TOML file gets a last comment. Other readers ignore both. The checksum
//! covers the text before it.

use std::fmt;

/// The start of the last line of a TOML file.
const TOML: &str = "# crc32: ";

/// The field with the checksum of a JSON object.
pub(crate) const FIELD: &str = "crc32";

/// The number of hexadecimal digits of a checksum.
const DIGITS: usize = 8;

/// The result of checking a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksumState {
    /// The checksum matches.
    Valid,
    /// The text has no checksum. An earlier version or another program wrote it.
    Absent,
    /// The checksum does not match.
    Invalid,
}

impl ChecksumState {
    /// Returns whether the checksum matches or there is none.
    pub(crate) fn is_acceptable(self) -> bool {
        self != Self::Invalid
    }
}

/// The message about a checksum that does not match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mismatch;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its checksum does not match: it was damaged or edited after it was written")
    }
}

/// Adds a checksum to a JSON object on one or several lines. Any other text is returned unchanged.
pub(crate) fn with_json_checksum(object: &str) -> String {
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

/// Checks the checksum of a JSON object.
pub(crate) fn check_json(object: &str) -> ChecksumState {
    match split_json(object) {
        Some((body, stated)) if stated == checksum(body) => ChecksumState::Valid,
        Some(_) => ChecksumState::Invalid,
        // The field is there, but not where it was written.
        None if object.trim_end().ends_with('}') && object.contains("\"crc32\"") => {
            ChecksumState::Invalid
        }
        None => ChecksumState::Absent,
    }
}

/// Returns the text before the checksum, and the checksum.
fn split_json(object: &str) -> Option<(&str, &str)> {
    let rest = object.trim_end().strip_suffix('}')?.trim_end();
    let rest = rest.strip_suffix('"')?;
    let (rest, stated) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let rest = rest.strip_suffix('"')?.trim_end();
    let rest = rest.strip_suffix(':')?.trim_end();
    let rest = rest.strip_suffix("\"crc32\"")?.trim_end();
    Some((rest.strip_suffix(',').unwrap_or(rest).trim_end(), stated))
}

/// Adds a checksum to a TOML text.
pub(crate) fn with_toml_checksum(text: &str) -> String {
    let line_break = if text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{line_break}");
    format!("{text}{TOML}{}\n", checksum(&text))
}

/// Removes the checksum from a TOML text.
pub(crate) fn without_toml_checksum(text: &str) -> &str {
    match check_toml(text) {
        ChecksumState::Absent => text,
        _ => text.rfind(TOML).map_or(text, |at| &text[..at]),
    }
}

/// Checks the checksum of a TOML text.
pub(crate) fn check_toml(text: &str) -> ChecksumState {
    match text.rfind(TOML) {
        Some(at) if text[at + TOML.len()..].trim_end() == checksum(&text[..at]) => {
            ChecksumState::Valid
        }
        Some(_) => ChecksumState::Invalid,
        None => ChecksumState::Absent,
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
    fn the_checksum_is_one_more_field_of_the_object() {
        for object in OBJECTS {
            let text = with_json_checksum(object);
            let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(value.as_object_mut().unwrap().remove("crc32").is_some());
            let before: serde_json::Value = serde_json::from_str(object).unwrap();
            assert_eq!(value, before);
            assert_eq!(check_json(&text), ChecksumState::Valid, "{text}");
            assert_eq!(check_json(object), ChecksumState::Absent);
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let objects = OBJECTS.map(|object| {
            (
                with_json_checksum(object),
                check_json as fn(&str) -> ChecksumState,
            )
        });
        let toml = with_toml_checksum("[align]\nepochs = 3");
        assert_eq!(check_toml(&toml), ChecksumState::Valid);
        assert_eq!(check_toml("[align]\n"), ChecksumState::Absent);
        for (text, check) in objects.into_iter().chain([(toml, check_toml as _)]) {
            assert_eq!(check(&text), ChecksumState::Valid);
            for at in 0..text.len() * 8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at / 8] ^= 1 << (at % 8);
                let Ok(flipped) = String::from_utf8(bytes) else {
                    continue;
                };
                let parsed = serde_json::from_str::<serde_json::Value>(&flipped);
                // White space at the end is not part of the content.
                let same = flipped.trim_end() == text.trim_end();
                // A flip in the name of the field leaves the other fields intact.
                let name = check(&flipped) == ChecksumState::Absent;
                assert!(
                    check(&flipped) == ChecksumState::Invalid || same || name || parsed.is_err(),
                    "{flipped}"
                );
            }
        }
    }

    #[test]
    fn an_object_that_another_program_reformatted_does_not_match() {
        let text = with_json_checksum(r#"{"a":1,"b":2}"#);
        // Spaces as Python writes them.
        let reformatted = text.replace(':', ": ").replace(',', ", ");
        assert_eq!(check_json(&reformatted), ChecksumState::Invalid);
        assert!(!check_json(&reformatted).is_acceptable());
    }
}
