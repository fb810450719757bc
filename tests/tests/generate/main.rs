//! From a clip and a prompt to an answer: prompts, tokenizers, cached features, single answers and chats.

mod chat;
mod end_to_end;
mod features;
mod prompt_lengths;
mod prompts;
mod tokenizers;
