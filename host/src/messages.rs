//! Formatting of messages: values from files and texts of other libraries are shortened and escaped.

use merv_architectures::messages::escaped_but;

pub use merv_architectures::messages::escaped;
pub(crate) use merv_architectures::messages::{listed, quoted};

/// The maximum number of characters of a line of a message.
const LINE_CHARS: usize = 4000;

/// The maximum number of characters of a text from another library or a service.
const SENTENCE_CHARS: usize = 300;

/// The maximum number of characters of a whole message.
const MESSAGE_CHARS: usize = 50_000;

/// Returns a count with its noun: `1 clip`, `2 clips`. The plural must be formed with `s`.
pub fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Returns a message without the middle of its long lines: another library may have put a long value into it.
/// The beginning, which says what is wrong, and the end, which says what to do, stay. Control characters are
/// escaped, because file names can contain them too.
pub fn clipped(message: &str) -> String {
    let message = &escaped_but(message, |c| c == '\n' || c == '\t');
    let lines: Vec<String> = message
        .split('\n')
        .map(|line| without_middle(line, LINE_CHARS))
        .collect();
    without_middle(&lines.join("\n"), MESSAGE_CHARS)
}

/// Returns a text from another library or a service, without its middle if it is long.
pub(crate) fn shortened(sentence: &str) -> String {
    without_middle(sentence, SENTENCE_CHARS)
}

fn without_middle(text: &str, most: usize) -> String {
    let half = most / 2;
    let end = |kept: usize| text.char_indices().nth(kept).map(|(at, _)| at);
    let tail = || text.char_indices().rev().nth(half - 1).map(|(at, _)| at);
    match (end(most), end(half), tail()) {
        (Some(_), Some(head), Some(tail)) => format!("{} … {}", &text[..head], &text[tail..]),
        _ => text.to_owned(),
    }
}

/// Returns the causes of an error, outermost first.
pub fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| cause.source())
}

/// Returns an error and its causes in one line.
pub fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let text = causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    clipped(&text.replace("\n  ", "; ").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_control_a_terminal() {
        assert_eq!(clipped("a\u{1b}[2J\r\n\tb"), "a\\u{1b}[2J\\r\n\tb");
        assert_eq!(escaped("a\nb\u{7}"), "a\\nb\\u{7}");
    }

    #[test]
    fn one_is_singular() {
        let found = [0, 1, 2].map(|count| counted(count, "clip"));
        assert_eq!(found, ["0 clips", "1 clip", "2 clips"]);
    }

    #[test]
    fn long_lines_keep_both_ends() {
        let short = format!("one\n{}", "ä".repeat(4000));
        assert_eq!(clipped(&short), short);
        let long = format!("`a` is {}; expected b\n  do: c", "ä".repeat(1 << 20));
        let cut = clipped(&long);
        assert!(cut.starts_with("`a` is ää"), "{cut}");
        assert!(cut.ends_with("ä; expected b\n  do: c"), "{cut}");
        assert!(cut.chars().count() < 4100);
        assert!(clipped(&"x\n".repeat(1 << 20)).chars().count() < 51_000);
    }
}
