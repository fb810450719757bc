//! The `pure` format of base models: `In: {message}\nOut: `, and `</s>` after the reply.
//!
//! Agrees with the original's `PurePromptBuilder`, which drops the trailing blank before it
//! tokenises; the weights learned it so. The format has no system prompt.

/// What ends a reply.
pub(super) const REPLY_END: &str = "</s>";

/// The user's turn, right-stripped, for a message whose marks and blanks are gone.
pub(super) fn human_turn(message: &str) -> String {
    format!("In: {message}\nOut:")
}

#[cfg(test)]
mod tests {
    use super::human_turn;

    #[test]
    fn turn_ends_without_a_blank() {
        assert_eq!(human_turn("What happens?"), "In: What happens?\nOut:");
        assert_eq!(human_turn(""), "In: \nOut:");
        assert_eq!(human_turn("two\nlines"), "In: two\nlines\nOut:");
    }
}
