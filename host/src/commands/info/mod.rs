//! `info`: shows what a registry would load, as stated by its plugins and by the headers of the files that are on
//! this machine, and whether it can be loaded.

mod memory;
mod report;
mod text;

use super::{CommandResult, load_options, print, print_json};
use crate::args::{Global, info::Info};
use merv_host::{Plan, VidLm};
use report::InfoReport;

pub fn run(global: &Global, args: &Info) -> CommandResult {
    let options = load_options(global);
    let registry = options.registry(global.registry())?;
    let plan = Plan::new(registry.clone(), &options)?;
    let unchecked = if args.load {
        VidLm::check(registry, &options)?
    } else {
        VidLm::missing(registry, &options)?
    };
    let report = InfoReport::new(&plan, unchecked)?;
    if args.json {
        print_json(&report)
    } else {
        print(&text::text(&report))
    }
}
