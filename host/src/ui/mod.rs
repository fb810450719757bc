//! Standard error: progress, notices and errors. Bars and colours are only shown on terminals.

pub mod output;
pub mod progress;
pub mod training;

pub use progress::{Bar, Ui, error_line};
