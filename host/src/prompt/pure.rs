//! The `pure` format of base models: `In: {message}\nOut: `, and `</s>` after the reply.
//!
//! Agrees with the original's `PurePromptBuilder`, whose trailing blank is dropped before it is
//! tokenised; the weights learned it so. The format has no system prompt.

use super::style::Style;

pub(super) const PURE: Style = Style {
    name: "pure",
    system: None,
    reply_end: "</s>",
    bos_each_turn: false,
    human: |_, message| format!("In: {message}\nOut:"),
};
