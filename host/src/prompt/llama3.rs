//! Llama 3 and 3.1 format: each turn is enclosed in `<|start_header_id|>role<|end_header_id|>` and `<|eot_id|>`.
//!
//! Matches `LLaMa31PromptBuilder` of the original, which strips the trailing line breaks of each turn before
//! tokenising it for training. The original also drops the system header. This implementation keeps it.

use super::style::{ASSISTANT, Style};

pub(super) const LLAMA3: Style = Style {
    name: "llama3",
    system: Some(ASSISTANT),
    reply_end: "<|eot_id|>",
    bos_each_turn: false,
    user_turn: |system, message| {
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
