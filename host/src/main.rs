//! The command `merv-host`: parse, dispatch, exit code.

mod args;
mod commands;
mod ui;

use clap::Parser;
use std::{error::Error, io, process::ExitCode};

fn main() -> ExitCode {
    let args = args::Args::parse();
    let ui = ui::Ui::new(&args.global);
    match commands::run(args, ui) {
        Ok(()) => ExitCode::SUCCESS,
        // `merv-host … | head` is no failure.
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.error(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
