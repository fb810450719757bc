//! `merv-host eval` with the lively model, on small benchmarks in the original's layout.

mod answers;
mod benchmark_files;
mod chunks;
mod judge;
mod refused;
mod reports;

use merv_host::GenerateOptions;
use merv_tests::{Benchmark, artifacts, root};
use std::process::{Child, Command, Stdio};

/// Limits answers to a few tokens. Random weights do not end an answer themselves.
const SHORT: [&str; 2] = ["--max-new-tokens", "6"];

fn short() -> GenerateOptions {
    let mut options = GenerateOptions::default();
    options.limits.max_new_tokens = 6;
    options
}

/// Starts a process that the test manages itself.
fn start(toy: &Benchmark, task: &str, out: &str, more: &[&str]) -> Child {
    Command::new(&artifacts().host)
        .current_dir(root())
        .args(toy.arguments(task, out))
        .args(SHORT)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("merv-host can be started")
}
