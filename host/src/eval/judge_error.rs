//! Why a judge cannot be asked.

use thiserror::Error;

/// Why a judge cannot be asked.
#[derive(Debug, Error)]
pub enum JudgeError {
    /// The service requires a key, and none was given.
    #[error(
        "{url} wants a key, and there is none\n  \
         do: set $OPENAI_API_KEY, name a file with --key-file, or let a model judge with --local"
    )]
    NoKey {
        /// The address.
        url: String,
    },
    /// The key cannot be sent.
    #[error(
        "the key holds characters that no key has\n  do: look at $OPENAI_API_KEY or the key file"
    )]
    BadKey,
    /// The address is none.
    #[error("`{0}` is no address\n  do: set $OPENAI_BASE_URL to one as https://api.openai.com/v1")]
    BadUrl(String),
    /// The service does not know us.
    #[error(
        "{url}: access denied: {said}\n  do: {}",
        if *.with_key { "check the key" } else { "set $OPENAI_API_KEY, or --key-file" }
    )]
    Denied {
        /// The address.
        url: String,
        /// What the service said.
        said: String,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// The service will not do what is asked, ever.
    #[error("{url} answered {status}: {said}")]
    Refused {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What the service said.
        said: String,
    },
    /// The service will not process this content.
    #[error("the service refuses the content: {0}")]
    Filtered(String),
    /// All tries failed.
    #[error(
        "{url} failed {tries} times; the last time: {last}\n  \
         do: run the same command later: what is judged is kept"
    )]
    GaveUp {
        /// The address.
        url: String,
        /// How often it was asked.
        tries: u32,
        /// What went wrong last.
        last: String,
    },
    /// Cases came back without an answer, again and again.
    #[error(
        "{cases} cases came back without an answer\n  \
         do: run the same command again: what is judged is kept"
    )]
    Unanswered {
        /// How many.
        cases: usize,
    },
    /// A batch failed.
    #[error("the batch `{id}` ended as `{status}`: {said}")]
    Batch {
        /// The batch.
        id: String,
        /// How it ended.
        status: String,
        /// What the service said.
        said: String,
    },
}
