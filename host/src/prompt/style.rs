//! The definition of a built-in chat format.

/// A chat format. Each format file defines one constant of this type.
pub(super) struct Style {
    /// The name in a registry.
    pub name: &'static str,
    /// The default system prompt. `None` if the format does not support system prompts.
    pub system: Option<&'static str>,
    /// The text that ends a reply.
    pub reply_end: &'static str,
    /// Whether a BOS precedes every user message, and not only the first.
    pub bos_each_turn: bool,
    /// Writes the user's turn up to the beginning of the reply, without trailing white space. The first turn
    /// includes the system prompt if there is one.
    pub user_turn: fn(system: Option<&str>, message: &str) -> String,
}

/// MERV's system prompt, for models whose format does not define one.
pub(super) const ASSISTANT: &str = "You are a helpful language and vision assistant. You are able to understand the \
visual content that the user provides, and assist the user with a variety of tasks using natural language.";
