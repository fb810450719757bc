//! The numerical results of encoders, language models and the mixer, against the original implementations. Models run in
//! the libraries that users load.

mod encoder_ids;
mod encoders;
mod gguf;
mod llm;
mod mixer;
mod smollm2;
mod training;
mod untrained_mixer;
