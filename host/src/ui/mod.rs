//! What people see on standard error: progress, notices, errors. Bars and colours only on terminals.

pub mod output;
pub mod progress;
pub mod training;

pub use progress::{Bar, Ui, error_line};
