//! `pure` format for base models: `In: {message}\nOut: `, with `</s>` after the reply.
//!
//! Matches `PurePromptBuilder` of the original. Its trailing space is stripped before tokenising, as in
//! training. The format has no system prompt.

use super::style::Style;

pub(super) const PURE: Style = Style {
    name: "pure",
    system: None,
    reply_end: "</s>",
    bos_each_turn: false,
    user_turn: |_, message| format!("In: {message}\nOut:"),
};
