//! `eval` and what it can do.

use super::{
    answer::Answer,
    clip::Limits,
    numbers::{at_least_one, fraction, rate, wait},
};
use clap::{Subcommand, ValueEnum};
use merv_host::eval::Strategy;
use std::path::PathBuf;

/// Ask a benchmark's questions, and score the answers
///
/// A benchmark is a folder with test_q.json, test_a.json and videos/, as the original keeps MSVD, MSRVTT,
/// TGIF, ActivityNet, Perception Test, NExT-QA, VLEP and TVQA.
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(subcommand)]
    pub command: EvalCommand,
}

#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Questions with free answers; scored by exact match and token F1, and by a judge with `eval judge`
    OpenEnded(Asking),
    /// Questions with options
    Mcq(Mcq),
    /// Let a judge compare predictions with the right answers
    Judge(Judge),
    /// Compare two results about the same questions
    Compare(Compare),
    /// Show the results of several models by kind of question, as Markdown
    Table(Table),
}

#[derive(Debug, clap::Args)]
pub struct Mcq {
    /// How an option is chosen: by the reply's first letter, as the original does; by which letter is
    /// likeliest, which needs no reply; or both, side by side
    #[arg(long, value_name = "HOW", default_value = "both")]
    pub strategy: HowChosen,
    #[command(flatten)]
    pub asking: Asking,
}

/// What `--strategy` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HowChosen {
    /// The reply's first letter.
    Letter,
    /// The likeliest letter.
    Likelihood,
    /// Both.
    Both,
}

impl From<HowChosen> for Strategy {
    fn from(how: HowChosen) -> Self {
        match how {
            HowChosen::Letter => Self::Letter,
            HowChosen::Likelihood => Self::Likelihood,
            HowChosen::Both => Self::Both,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Asking {
    /// The benchmark: a folder in --data-dir
    #[arg(long, value_name = "NAME")]
    pub benchmark: String,
    /// Where benchmarks are
    #[arg(long, value_name = "DIR", default_value = "eval_data")]
    pub data_dir: PathBuf,
    /// Where predictions and the result go, and where they are resumed from
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Cut the questions into so many chunks, for so many processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub num_chunks: usize,
    /// Ask the questions of this chunk, from 0 on; whoever finishes last merges
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub chunk_idx: usize,
    /// Answers that are made at once, at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub batch_size: usize,
    /// Stop when more than this part of a chunk's clips cannot be used
    #[arg(long, value_name = "FRACTION", default_value_t = 0.05, value_parser = fraction)]
    pub max_bad_fraction: f64,
    /// Frames per second of videos that are folders of images
    #[arg(long, value_name = "FPS", default_value_t = 3.0, value_parser = rate)]
    pub folder_fps: f64,
    /// Keep the encoders' features here, and use those that are there
    #[arg(long, value_name = "DIR")]
    pub feature_cache: Option<PathBuf>,
    #[command(flatten)]
    pub answer: Answer,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limits: Limits,
}

#[derive(Debug, clap::Args)]
pub struct Judge {
    /// What `eval open-ended` wrote: a file …_pred_merge.jsonl
    #[arg(value_name = "PREDICTIONS")]
    pub predictions: PathBuf,
    /// The service's model that judges
    #[arg(long, value_name = "NAME", default_value = merv_host::eval::judge::DEFAULT_MODEL, conflicts_with = "local")]
    pub model: String,
    /// Where the service is
    #[arg(
        long,
        value_name = "URL",
        env = "OPENAI_BASE_URL",
        default_value = "https://api.openai.com/v1"
    )]
    pub base_url: String,
    /// A file with the service's key, instead of $OPENAI_API_KEY
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub concurrency: usize,
    /// How long the service may take for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Times that a request is tried
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub tries: u32,
    /// The wait after the first try that failed, in seconds; it doubles
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = wait)]
    pub retry_delay: f64,
    /// Use the service's batch interface: half the price, up to a day
    #[arg(long)]
    pub batch: bool,
    /// How often to look whether a batch is done, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, requires = "batch", value_parser = wait)]
    pub poll: f64,
    /// Requests of one batch at most
    #[arg(long, value_name = "N", default_value_t = 49_000, requires = "batch", value_parser = at_least_one)]
    pub batch_requests: usize,
    /// Bytes of one batch at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 190_000_000,
        requires = "batch"
    )]
    pub batch_bytes: usize,
    /// Let the language model of --registry judge
    #[arg(long, conflicts_with_all = ["batch", "key_file"])]
    pub local: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Compare {
    /// Predictions (…_pred_merge.jsonl) or verdicts (…_gpt.json)
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The same of another model
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Table {
    /// Results on one benchmark (…_report.json)
    #[arg(value_name = "REPORT", required = true)]
    pub reports: Vec<PathBuf>,
    /// Print the table as one JSON object
    #[arg(long)]
    pub json: bool,
}
