//! What the commands do, one file a subcommand.

mod bad_argument;
mod chat;
mod completions;
mod convert;
mod encode;
mod eval;
mod generate;
mod info;
mod options;
mod plot;
mod plugins;
mod report;
mod signals;
mod synth;
mod table;
mod train;
mod unchecked;
mod untrained;

use crate::{
    args::{Args, Command, Global},
    out_of_memory,
    ui::{Ui, output},
};
pub use bad_argument::BadArgument;
use merv_host::{LoadOptions, hub};
use serde::Serialize;
use std::{error::Error, io::Write};

/// What a command returns: its errors are only shown, never looked into.
type Outcome = Result<(), Box<dyn Error>>;

/// Runs the command that `args` name.
///
/// # Errors
///
/// Whatever stops it; the caller shows it and exits with 1, or with 2 after a [`BadArgument`].
pub fn run(args: Args, ui: Ui) -> Outcome {
    let Args { global, command } = args;
    signals::outlive_file_size_limit()?;
    out_of_memory::tell(&command)?;
    if let Some(folder) = global.plugin_dir.iter().find(|folder| !folder.is_dir()) {
        let folder = folder.display();
        return Err(format!("--plugin-dir {folder}: there is no such folder").into());
    }
    if matches!(command, Command::Generate(_) | Command::Chat(_)) {
        // An answer that would be lost is not made.
        output::check().map_err(output::lost)?;
    }
    match command {
        Command::Generate(args) => generate::run(&global, &args, ui),
        Command::Chat(args) => chat::run(&global, &args, ui),
        Command::Plugins(args) => plugins::run(&global, &args),
        Command::Info(args) => info::run(&global, &args),
        Command::Train(args) => train::run(&global, &args, ui),
        Command::Convert(args) => convert::run(&global, &args, ui),
        Command::Encode(args) => encode::run(&global, &args, ui),
        Command::Eval(args) => eval::run(&global, &args, ui),
        Command::Synth(args) => synth::run(&global, &args, ui),
        Command::Plot(args) => plot::run(&args, ui),
        Command::Completions(args) => completions::run(&args),
    }
}

/// How the global options want models loaded.
fn load_options(global: &Global) -> LoadOptions {
    let hub = hub::Settings::from_env();
    LoadOptions {
        plugin_folders: global.plugin_dir.clone(),
        threads: global.threads.map(usize::from),
        device: global.device,
        precision: global.precision,
        hub: hub::Settings {
            offline: hub.offline || global.offline,
            ..hub
        },
    }
}

/// Writes one JSON object to standard output.
fn print_json(value: &impl Serialize) -> Outcome {
    print(&serde_json::to_string_pretty(value)?)
}

/// Writes text and a line break to standard output.
fn print(text: &str) -> Outcome {
    let mut stdout = anstream::stdout();
    let written = output::check().and_then(|()| writeln!(stdout, "{text}"));
    Ok(written
        .and_then(|()| stdout.flush())
        .map_err(output::lost)?)
}
