//! Values of files and sentences of other libraries, fit to be repeated in a message.

/// Longer values are cut before they are repeated.
const VALUE_CHARS: usize = 100;

/// Characters of a line of a message at most.
const LINE_CHARS: usize = 4000;

/// Characters of a sentence that repeats a value.
const SENTENCE_CHARS: usize = 300;

/// Characters of a whole message at most.
const MESSAGE_CHARS: usize = 50_000;

/// A value between backticks: cut when long, and with control characters escaped, because a file may hold
/// what would drive the reader's terminal.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::from("`");
    for c in text.chars().take(VALUE_CHARS) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(VALUE_CHARS).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// A message whose long lines lose their middle: it may repeat a value that somebody else did not cut. Its
/// beginning names what is wrong and its end what to do, so both stay.
pub fn clipped(message: &str) -> String {
    let lines: Vec<String> = message
        .split('\n')
        .map(|line| without_middle(line, LINE_CHARS))
        .collect();
    without_middle(&lines.join("\n"), MESSAGE_CHARS)
}

/// What another library or a service said, which may repeat a value: without the middle, when it is long.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_cannot_drive_a_terminal() {
        assert_eq!(shown("a\u{1b}[2J\n"), "`a\\u{1b}[2J\\n`");
        let long = shown(&"ä".repeat(1 << 20));
        assert_eq!(long, format!("`{}…`", "ä".repeat(100)));
        assert_eq!(shown(&"x".repeat(100)), format!("`{}`", "x".repeat(100)));
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
