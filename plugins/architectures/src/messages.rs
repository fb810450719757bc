//! Names and values in messages: values from files are shortened and escaped.

/// The maximum number of characters of a quoted value.
const VALUE_CHARS: usize = 100;

/// Returns a value between backticks. A long value is truncated, and control characters are escaped, because
/// a file may contain terminal control sequences.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    let cut: String = text.chars().take(VALUE_CHARS).collect();
    out.push_str(&escaped(&cut));
    if text.chars().nth(VALUE_CHARS).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// Returns a text with its control characters escaped, so that it is one line and cannot control a terminal.
pub fn escaped(text: &str) -> String {
    escaped_but(text, |_| false)
}

/// Returns a text with those control characters escaped that are not wanted.
pub fn escaped_but(text: &str, is_wanted: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && !is_wanted(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Returns names in backticks, separated by commas.
pub fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_cannot_drive_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2J\n"), "`a\\u{1b}[2J\\n`");
        let long = quoted(&"ä".repeat(1 << 20));
        assert_eq!(long, format!("`{}…`", "ä".repeat(100)));
        assert_eq!(quoted(&"x".repeat(100)), format!("`{}`", "x".repeat(100)));
    }
}
