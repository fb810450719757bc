//! Qwen2.5 format: each turn is enclosed in `<|im_start|>role` and `<|im_end|>`.
//!
//! Matches `Qwen2PromptBuilder` of the original, which strips the trailing line break of each turn before
//! tokenising it for training. The original also drops the system header. This implementation keeps it.

use super::style::{ASSISTANT, Style};

pub(super) const QWEN2_5: Style = Style {
    name: "qwen2.5",
    system: Some(ASSISTANT),
    reply_end: "<|im_end|>",
    bos_each_turn: false,
    user_turn: |system, message| {
        let header = system.map(|system| format!("<|im_start|>system\n{system}<|im_end|>\n"));
        format!(
            "{}<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant",
            header.unwrap_or_default()
        )
    },
};
