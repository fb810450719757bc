//! `info`: what a registry would load, from what its plugins say and the headers of the files that are
//! on this machine.

mod memory;
mod report;
mod text;

use super::{Outcome, load_options, print, print_json};
use crate::args::{Global, info::Info};
use merv_host::Plan;
use report::Report;

pub fn run(global: &Global, args: &Info) -> Outcome {
    let options = load_options(global);
    let plan = Plan::new(options.registry(global.registry())?, &options)?;
    let report = Report::new(&plan)?;
    if args.json {
        print_json(&report)
    } else {
        print(&text::text(&report))
    }
}
