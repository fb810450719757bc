//! TOML files that people write, registries and training settings: read within bounds, and checked so that
//! everything that is wrong with a file is reported together, each problem with its line.

pub(crate) mod document;
mod problem;
pub(crate) mod table;

pub use problem::{Problem, Problems};
