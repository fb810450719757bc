//! The result of a command, and printing to standard output.

use crate::ui::output;
use serde::Serialize;
use std::{error::Error, io::Write};

/// The result of a command. Its error is only reported.
pub(super) type CommandResult = Result<(), Box<dyn Error>>;

/// Writes one JSON object to standard output.
pub(super) fn print_json(value: &impl Serialize) -> CommandResult {
    print(&serde_json::to_string_pretty(value)?)
}

/// Writes text and a line break to standard output.
pub(super) fn print(text: &str) -> CommandResult {
    let mut stdout = anstream::stdout();
    let written = output::check().and_then(|()| writeln!(stdout, "{text}"));
    Ok(written
        .and_then(|()| stdout.flush())
        .map_err(output::write_error)?)
}
