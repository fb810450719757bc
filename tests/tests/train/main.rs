//! `merv-host train`: data, batches, curves, checkpoints and resuming.

mod curves;
mod data;
mod dry_run;
mod files;
mod resume;
mod runs;
