//! Errors of a judge.

use thiserror::Error;

/// The reason why a judge failed.
#[derive(Debug, Error)]
pub enum JudgeError {
    /// The service requires a key, and none was given.
    #[error(
        "{url} requires a key, and none is set\n  \
         do: set $OPENAI_API_KEY, give a file with --key-file, or use a local model as the judge with --local"
    )]
    NoKey {
        /// The address.
        url: String,
    },
    /// The key cannot be sent.
    #[error("the key contains invalid characters\n  do: check $OPENAI_API_KEY or the key file")]
    BadKey,
    /// The address is invalid.
    #[error(
        "`{0}` is not a valid URL\n  do: set $OPENAI_BASE_URL to a URL such as https://api.openai.com/v1"
    )]
    BadUrl(String),
    /// The service denied access.
    #[error(
        "{url}: access denied: {message}\n  do: {}",
        if *.with_key { "check the key" } else { "set $OPENAI_API_KEY or --key-file" }
    )]
    Denied {
        /// The address.
        url: String,
        /// The message of the service.
        message: String,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// The service refused the request permanently.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The message of the service.
        message: String,
    },
    /// The service refused to process this content.
    #[error("the service refuses the content: {0}")]
    Filtered(String),
    /// All attempts failed.
    #[error(
        "{url} failed {tries} times; the last error: {last}\n  \
         do: run the same command later; the verdicts so far are kept"
    )]
    GaveUp {
        /// The address.
        url: String,
        /// The number of attempts.
        tries: u32,
        /// The last error.
        last: String,
    },
    /// Some cases were not answered in several attempts.
    #[error(
        "{cases} cases were returned without an answer\n  \
         do: run the same command again; the verdicts so far are kept"
    )]
    Unanswered {
        /// The number of cases.
        cases: usize,
    },
    /// A batch failed.
    #[error("the batch `{id}` ended with the status `{status}`: {message}")]
    Batch {
        /// The id of the batch.
        id: String,
        /// Its final status.
        status: String,
        /// The message of the service.
        message: String,
    },
}
