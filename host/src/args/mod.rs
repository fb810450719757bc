//! The command line: only clap structs, one file per subcommand. [`crate::commands`] runs them.

pub mod answer;
pub mod chat;
pub mod clip;
pub mod completions;
pub mod convert;
pub mod encode;
pub mod eval;
pub mod generate;
pub mod info;
mod numbers;
pub mod plot;
pub mod plugins;
pub mod synth;
pub mod train;

use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Answers questions about videos with several specialised encoders and a language model.
///
/// Every encoder and every language model is a plugin. A registry file lists the plugins and weights of a
/// model. Without --registry the model is merv-tiny, whose weights come with this program.
#[derive(Debug, Parser)]
#[command(name = "merv-host", version, arg_required_else_help = true)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The model: a registry FILE, or the NAME of one in registry/ or $MERV_REGISTRY_PATH [default: merv-tiny]
    #[arg(long, global = true, value_name = "FILE|NAME")]
    pub registry: Option<PathBuf>,
    /// Search this folder for plugins first (may be repeated)
    #[arg(long, global = true, value_name = "DIR")]
    pub plugin_dir: Vec<PathBuf>,
    /// Number of threads to compute with [default: all]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    /// Where to compute: auto, cpu, or a kind of device and its number, such as cuda:0; overrides the registry
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Option<merv_host::registry::DeviceChoice>,
    /// What the plugins compute with, such as candle; overrides the names of plugins in the registry
    #[arg(long, global = true, value_name = "NAME")]
    pub backend: Option<String>,
    /// Number format of the matrix products of encoders and language model: auto, f32 or bf16; overrides the
    /// registry
    #[arg(long, global = true, value_name = "DTYPE")]
    pub precision: Option<merv_host::registry::DtypeChoice>,
    /// Download nothing: use only files that are on this machine
    #[arg(long, global = true)]
    pub offline: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Print more; -vv prints much more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print only errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Global {
    /// Returns the registry of `--registry`, or the default.
    pub fn registry(&self) -> &Path {
        let default = Path::new(merv_host::registry::DEFAULT_REGISTRY);
        self.registry.as_deref().unwrap_or(default)
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Only on a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Generate(Box<generate::Generate>),
    Chat(Box<chat::Chat>),
    Plugins(plugins::Plugins),
    Info(info::Info),
    Convert(convert::Convert),
    Train(train::Train),
    Encode(encode::Encode),
    Eval(Box<eval::Eval>),
    Synth(synth::Synth),
    Plot(plot::Plot),
    Completions(completions::Completions),
}
