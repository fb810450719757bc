//! Llama (arXiv 2307.09288; Hugging Face's `LlamaForCausalLM`).

mod config;
mod network;
mod session;
mod training;

pub use config::Config;
pub use network::load;
