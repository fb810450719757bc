//! Vicuna 1.5 format: `USER: {message} ASSISTANT: ` after the system prompt, with `</s>` after the reply.
//!
//! Matches `VicunaV15ChatPromptBuilder` of the original, without the trailing space.

use super::style::Style;

pub(super) const VICUNA: Style = Style {
    name: "vicuna",
    system: Some(
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
         detailed, and polite answers to the user's questions.",
    ),
    reply_end: "</s>",
    bos_each_turn: false,
    user_turn: |system, message| {
        let header = system.map(|system| format!("{system} "));
        format!("{}USER: {message} ASSISTANT:", header.unwrap_or_default())
    },
};
