//! `merv-host eval` on small benchmarks in the original's layout, with the lively model.

mod answers;
mod benchmark_files;
mod chunks;
mod judge;
mod refused;
mod reports;

use merv_host::GenerateOptions;
use merv_tests::{Benchmark, artifacts, root};
use std::process::{Child, Command, Stdio};

/// Few tokens, which random weights would not end by themselves.
const SHORT: [&str; 2] = ["--max-new-tokens", "6"];

fn short() -> GenerateOptions {
    let mut options = GenerateOptions::default();
    options.limits.max_new_tokens = 6;
    options
}

/// A process that a test handles itself.
fn start(toy: &Benchmark, task: &str, out: &str, more: &[&str]) -> Child {
    Command::new(&artifacts().host)
        .current_dir(root())
        .args(toy.arguments(task, out))
        .args(SHORT)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("merv-host starts")
}
