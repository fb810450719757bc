//! What a chat format is made of.

/// A chat format: one constant in each file beside this one.
pub(super) struct Style {
    /// Its name in a registry.
    pub name: &'static str,
    /// What stands where a system prompt may, unless the registry says otherwise; none where the format
    /// has no place for one.
    pub system: Option<&'static str>,
    /// What ends a reply.
    pub reply_end: &'static str,
    /// Whether the BOS stands before every message of the user, not before the first alone.
    pub bos_each_turn: bool,
    /// The user's turn up to where the reply begins, right-stripped; with the system prompt in the first
    /// turn, if there is one.
    pub human: fn(system: Option<&str>, message: &str) -> String,
}

/// MERV's own system prompt for models whose format has none of its own.
pub(super) const ASSISTANT: &str = "You are a helpful language and vision assistant. You are able to understand the \
visual content that the user provides, and assist the user with a variety of tasks using natural language.";
