//! Reading of TOML files that people write: registries and training settings. All problems of a file are
//! reported together, each with its line.

pub(crate) mod document;
mod problem;
pub(crate) mod table;

pub use problem::{Problem, Problems};
