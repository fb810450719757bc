//! The commands, one file per subcommand.

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
mod print;
mod report;
mod signals;
mod synth;
mod table;
mod train;
mod unchecked;
mod untrained;

use crate::{
    args::{Args, Command},
    out_of_memory,
    ui::{Ui, output},
};
pub use bad_argument::BadArgument;
use options::load_options;
use print::{CommandResult, print, print_json};

/// Runs the command in `args`.
///
/// # Errors
///
/// Whatever stops the command. The caller reports it and exits with 1, or with 2 for a [`BadArgument`].
pub fn run(args: Args, ui: Ui) -> CommandResult {
    let Args { global, command } = args;
    signals::survive_file_size_limit()?;
    out_of_memory::install(&command)?;
    if let Some(folder) = global.plugin_dir.iter().find(|folder| !folder.is_dir()) {
        let folder = folder.display();
        return Err(format!("--plugin-dir {folder}: the folder does not exist").into());
    }
    if matches!(command, Command::Generate(_) | Command::Chat(_)) {
        // Without standard output the answer would be lost, so it is not generated.
        output::check().map_err(output::write_error)?;
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
