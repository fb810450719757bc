//! Qwen2.5's format: each turn between `<|im_start|>role` and `<|im_end|>`.
//!
//! Agrees with the original's `Qwen2PromptBuilder`, whose turns lose their last line break when they are
//! tokenised for training; there the system header is lost too, here it is not.

use super::style::{ASSISTANT, Style};

pub(super) const QWEN2_5: Style = Style {
    name: "qwen2.5",
    system: Some(ASSISTANT),
    reply_end: "<|im_end|>",
    bos_each_turn: false,
    human: |system, message| {
        let header = system.map(|system| format!("<|im_start|>system\n{system}<|im_end|>\n"));
        format!(
            "{}<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant",
            header.unwrap_or_default()
        )
    },
};
