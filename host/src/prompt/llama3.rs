//! The headers of Llama-3 and 3.1: each turn between `<|start_header_id|>role<|end_header_id|>` and
//! `<|eot_id|>`.
//!
//! Agrees with the original's `LLaMa31PromptBuilder`, whose turns lose their last line breaks when they are
//! tokenised for training; there the system header is lost too, here it is not.

use super::style::{ASSISTANT, Style};

pub(super) const LLAMA3: Style = Style {
    name: "llama3",
    system: Some(ASSISTANT),
    reply_end: "<|eot_id|>",
    bos_each_turn: false,
    human: |system, message| {
        let turn =
            |role, text| format!("<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>");
        let header = system.map(|system| turn("system", system));
        format!(
            "{}{}<|start_header_id|>assistant<|end_header_id|>",
            header.unwrap_or_default(),
            turn("user", message)
        )
    },
};
