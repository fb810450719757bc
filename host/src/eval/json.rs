//! JSON as Python writes it: with bare `NaN` and `Infinity`, which are not valid JSON.

use std::borrow::Cow;

/// Returns the text with every bare `NaN`, `Infinity` and `-Infinity` replaced with `null`.
pub(super) fn without_nan(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut inside) = (text, false);
    while let Some(first) = rest.chars().next() {
        if inside {
            let end = rest.find(['"', '\\']).unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            let taken = match rest.as_bytes().first() {
                // An escape covers one more character, which can have several bytes.
                Some(b'\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                Some(_) => {
                    inside = false;
                    1
                }
                None => 0,
            };
            out.push_str(&rest[..taken]);
            rest = &rest[taken..];
            continue;
        }
        let bare = ["NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        if let Some(word) = bare {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        inside = first == '"';
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::without_nan;

    #[test]
    fn only_bare_words_are_replaced() {
        for (text, expected) in [
            (r#"{"a": [NaN, -Infinity]}"#, r#"{"a": [null, null]}"#),
            (r#"{"NaN": "a NaN é"}"#, r#"{"NaN": "a NaN é"}"#),
            (r#"{"a\"NaN": Infinity}"#, r#"{"a\"NaN": null}"#),
            (r#"["\\", NaN]"#, r#"["\\", null]"#),
            ("\"NaN", "\"NaN"),
            ("\"NaN\\", "\"NaN\\"),
            ("\"NaN\\é", "\"NaN\\é"),
            ("[1]", "[1]"),
        ] {
            assert_eq!(without_nan(text), expected);
        }
    }
}
