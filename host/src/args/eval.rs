//! `eval` and its subcommands.

use super::{
    answer::Answer,
    clip::VideoLimits,
    numbers::{at_least_one, fraction, rate, wait},
};
use clap::{Subcommand, ValueEnum};
use merv_host::eval::Strategy;
use std::path::PathBuf;

/// Ask a benchmark's questions, and score the answers
///
/// A benchmark is a folder with test_q.json, test_a.json and videos/. MSVD, MSRVTT, TGIF, ActivityNet,
/// Perception Test, NExT-QA, VLEP and TVQA have this form in the original.
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(subcommand)]
    pub command: EvalCommand,
}

#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Ask questions with free answers; scored by exact match and token F1, and by a judge with `eval judge`
    OpenEnded(BenchmarkArgs),
    /// Ask multiple-choice questions
    Mcq(Mcq),
    /// Let a judge score open-ended predictions
    Judge(Judge),
    /// Compare two results on the same questions
    Compare(Compare),
    /// Show the results of several models by kind of question, as Markdown
    Table(Table),
}

#[derive(Debug, clap::Args)]
pub struct Mcq {
    /// How an option is chosen: `letter` takes the first letter of the reply, as the original does;
    /// `likelihood` takes the most likely letter, without generating a reply; `both` reports both
    #[arg(long, value_name = "HOW", default_value = "both")]
    pub strategy: StrategyChoice,
    #[command(flatten)]
    pub run: BenchmarkArgs,
}

/// Values of `--strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StrategyChoice {
    /// The first letter of the reply.
    Letter,
    /// The most likely letter.
    Likelihood,
    /// Both.
    Both,
}

impl From<StrategyChoice> for Strategy {
    fn from(choice: StrategyChoice) -> Self {
        match choice {
            StrategyChoice::Letter => Self::Letter,
            StrategyChoice::Likelihood => Self::Likelihood,
            StrategyChoice::Both => Self::Both,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct BenchmarkArgs {
    /// The benchmark: a folder in --data-dir
    #[arg(long, value_name = "NAME")]
    pub benchmark: String,
    /// The folder of the benchmarks
    #[arg(long, value_name = "DIR", default_value = "eval_data")]
    pub data_dir: PathBuf,
    /// Where predictions and the result are written, and resumed from; use one folder for each model
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Split the questions into this many chunks, for as many processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub num_chunks: usize,
    /// Ask the questions of this chunk, counted from 0; the chunk that finishes last merges all of them
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub chunk_idx: usize,
    /// Maximum number of answers that are generated together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub batch_size: usize,
    /// Stop when more than this fraction of a chunk's clips cannot be used
    #[arg(long, value_name = "FRACTION", default_value_t = 0.05, value_parser = fraction)]
    pub max_bad_fraction: f64,
    /// Frame rate of videos that are folders of images
    #[arg(long, value_name = "FPS", default_value_t = 3.0, value_parser = rate)]
    pub folder_fps: f64,
    /// Keep the encoders' features here, and use those that are already here
    #[arg(long, value_name = "DIR")]
    pub feature_cache: Option<PathBuf>,
    #[command(flatten)]
    pub answer: Answer,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limits: VideoLimits,
}

#[derive(Debug, clap::Args)]
pub struct Judge {
    /// The predictions that `eval open-ended` wrote: a file …_pred_merge.jsonl
    #[arg(value_name = "PREDICTIONS")]
    pub predictions: PathBuf,
    /// The model of the service that judges
    #[arg(long, value_name = "NAME", default_value = merv_host::eval::judge::DEFAULT_MODEL, conflicts_with = "local")]
    pub model: String,
    /// The address of the service: any that is compatible with OpenAI's
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
    /// Maximum number of requests at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub concurrency: usize,
    /// How long the service may take for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// How often a request is tried
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub tries: u32,
    /// The wait after the first failed try, in seconds; it doubles with each further try
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = wait)]
    pub retry_delay: f64,
    /// Use the service's batch interface: it costs half and takes up to a day
    #[arg(long)]
    pub batch: bool,
    /// How often to check whether a batch is done, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, requires = "batch", value_parser = wait)]
    pub poll: f64,
    /// Maximum number of requests in a batch
    #[arg(long, value_name = "N", default_value_t = 49_000, requires = "batch", value_parser = at_least_one)]
    pub batch_requests: usize,
    /// Maximum size of a batch, in bytes
    #[arg(
        long,
        value_name = "N",
        default_value_t = 190_000_000,
        requires = "batch"
    )]
    pub batch_bytes: usize,
    /// Let the language model of --registry judge; no service is needed
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
    /// The predictions or verdicts of another model
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
