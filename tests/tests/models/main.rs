//! The models' numbers: encoders, language models and the mixer, through the libraries that users load, against
//! the original implementations.

mod encoder_ids;
mod encoders;
mod gguf;
mod llm;
mod mixer;
mod smollm2;
mod training;
mod untrained_mixer;
