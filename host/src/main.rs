//! The program `merv-host`: parses the command line, runs the command, and sets the exit code.

mod args;
mod commands;
mod out_of_memory;
mod ui;

use clap::Parser;
use commands::BadArgument;
use merv_host::memory;
use out_of_memory::OutOfMemory;
use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

/// The exit code for a wrong command line, the same as clap's.
const BAD_ARGUMENT: u8 = 2;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return show(&help),
    };
    let ui = ui::Ui::new(&args.global);
    match commands::run(args, ui) {
        Ok(()) => ExitCode::SUCCESS,
        // `merv-host … | head` is not a failure.
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            match memory::ran_out(error.as_ref()) {
                true => ui.error(&OutOfMemory::new(error.as_ref())),
                false => ui.error(error.as_ref()),
            }
            match error.is::<BadArgument>() {
                true => ExitCode::from(BAD_ARGUMENT),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints the requested help or version.
fn show(help: &clap::Error) -> ExitCode {
    let shown = ui::output::check().and_then(|()| help.print());
    let shown = shown.and_then(|()| io::stdout().flush());
    match shown.map_err(ui::output::write_error) {
        Err(error) if !is_broken_pipe(&error) => {
            ui::error_line(&error.to_string());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
