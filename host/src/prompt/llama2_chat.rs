//! Llama-2's chat format: `[INST] {message} [/INST]`, and `</s>` after the reply.
//!
//! Agrees with the original's `LLaMa2ChatPromptBuilder`, which it also gives to Llama-3 (`llama3-8b-chat`);
//! its header opens with `<<SYS>`, one bracket short of Meta's own. Every turn begins with `<s>`, in the original
//! and in Meta's own format; the tokenizer writes it.

use super::style::{ASSISTANT, Style};

pub(super) const LLAMA2_CHAT: Style = Style {
    name: "llama2-chat",
    system: Some(ASSISTANT),
    reply_end: "</s>",
    bos_each_turn: true,
    human: |system, message| {
        let header = system.map(|system| format!("<<SYS>\n{system}\n<</SYS>>\n\n"));
        format!("[INST] {}{message} [/INST]", header.unwrap_or_default())
    },
};
