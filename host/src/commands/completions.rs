use super::CommandResult;
use crate::args::{Args, completions::Completions};
use clap::CommandFactory;

pub fn run(args: &Completions) -> CommandResult {
    let mut command = Args::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "merv-host", &mut script);
    super::print(String::from_utf8(script)?.trim_end())
}
