use merv_host::{
    Sampling,
    generate::{ReplyLimits, Sampler},
};

/// Options for generating an answer.
#[derive(Debug, clap::Args)]
pub struct Answer {
    /// Maximum number of tokens in the answer
    #[arg(
        long,
        value_name = "N",
        default_value_t = ReplyLimits::default().max_new_tokens,
        allow_negative_numbers = true
    )]
    pub max_new_tokens: usize,
    /// 0 always takes the most likely token; higher values make answers more varied
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        value_parser = temperature,
        allow_negative_numbers = true
    )]
    pub temperature: f64,
    /// Sample only from the most likely tokens that together have this probability
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        value_parser = top_p,
        allow_negative_numbers = true
    )]
    pub top_p: f64,
    /// Sample only from this many of the most likely tokens; 0 turns this off
    #[arg(
        long,
        value_name = "K",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub top_k: usize,
    /// The same seed gives the same answer
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub seed: u64,
    /// Do not end before prompt and answer together have this many tokens
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub min_length: usize,
    /// Do not end before the answer has this many tokens
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub min_new_tokens: usize,
}

fn temperature(text: &str) -> Result<f64, String> {
    let temperature = number(text)?;
    accepted(Sampling {
        temperature,
        ..Sampling::default()
    })?;
    Ok(temperature)
}

fn top_p(text: &str) -> Result<f64, String> {
    let top_p = number(text)?;
    accepted(Sampling {
        top_p,
        ..Sampling::default()
    })?;
    Ok(top_p)
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}

/// Checks that the sampler accepts these settings.
fn accepted(sampling: Sampling) -> Result<(), String> {
    Sampler::new(sampling)
        .map(drop)
        .map_err(|error| error.to_string())
}
