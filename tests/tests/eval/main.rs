//! `merv-host eval` on small benchmarks in the original's layout, with the lively model.

mod benchmark_files;
mod judge;
mod runs;
