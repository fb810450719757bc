//! Llama 2 chat format: `[INST] {message} [/INST]`, with `</s>` after the reply.
//!
//! Matches `LLaMa2ChatPromptBuilder` of the original, which is also used for Llama 3 (`llama3-8b-chat`).
//! Its header opens with `<<SYS>`, one bracket fewer than in Meta's format. Every turn begins with `<s>`, in the
//! original and in Meta's format. The tokenizer adds it.

use super::style::{ASSISTANT, Style};

pub(super) const LLAMA2_CHAT: Style = Style {
    name: "llama2-chat",
    system: Some(ASSISTANT),
    reply_end: "</s>",
    bos_each_turn: true,
    user_turn: |system, message| {
        let header = system.map(|system| format!("<<SYS>\n{system}\n<</SYS>>\n\n"));
        format!("[INST] {}{message} [/INST]", header.unwrap_or_default())
    },
};
