//! Settings of the hub: its URL, the cache folder and the token. They are read from the same environment
//! variables and files as those of the hub's own tools.

use merv_checkpoint::text;
use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The URL of the hub if `HF_ENDPOINT` is not set.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A file with a token in the working directory. The original MERV code reads it too.
const TOKEN_FILE: &str = ".hf_token";

/// The maximum size of a token file in bytes.
const MAX_TOKEN: u64 = 1 << 16;

/// The settings of the hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cache folder, which contains `models--owner--name`. `None` if no home folder is known.
    pub cache: Option<PathBuf>,
    /// The access token. Public files do not need one.
    pub token: Option<Token>,
    /// The URL of the hub.
    pub endpoint: String,
    /// Whether downloads are disabled.
    pub offline: bool,
    /// The wait before the first retry. It doubles with each further retry.
    pub retry_delay: Duration,
    /// Whether requests use the proxy of `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`, except for hosts in
    /// `NO_PROXY`.
    pub proxy_from_env: bool,
}

/// Reads the settings from the environment: see [`Settings::from_env`].
impl Default for Settings {
    fn default() -> Self {
        Self::from_env()
    }
}

impl Settings {
    /// Reads the settings from the environment:
    ///
    /// * the cache folder: `HF_HUB_CACHE`, or `hub` in `HF_HOME`. The default of `HF_HOME` is `huggingface` in
    ///   `XDG_CACHE_HOME` or `~/.cache`;
    /// * the token: `HF_TOKEN`, or the file `.hf_token` in the working directory, or the file in
    ///   `HF_TOKEN_PATH`, or `token` in `HF_HOME`, where the hub's tools store it;
    /// * the URL: `HF_ENDPOINT`;
    /// * no downloads: `HF_HUB_OFFLINE`, if it is `1`, `true`, `yes` or `on`.
    ///
    /// Empty variables count as unset.
    pub fn from_env() -> Self {
        Self::from_variables(&|name| env::var_os(name).map(PathBuf::from), Path::new(""))
    }

    /// Does the same as [`Self::from_env`] with the given variables and working directory.
    pub(super) fn from_variables(
        variable: &dyn Fn(&str) -> Option<PathBuf>,
        working_directory: &Path,
    ) -> Self {
        let path = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
        let text = |name| path(name).and_then(|value| value.to_str().map(str::to_owned));
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(env::home_dir()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let stored = path("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")));
        let token = path("HF_TOKEN")
            .map(|value| Token::from_variable(&value.to_string_lossy(), "$HF_TOKEN"))
            .or_else(|| Token::read(&working_directory.join(TOKEN_FILE)))
            .or_else(|| Token::read(&stored?));
        let endpoint = text("HF_ENDPOINT");
        let offline = text("HF_HUB_OFFLINE").map(|value| value.to_lowercase());
        Self {
            cache: path("HF_HUB_CACHE").or_else(|| Some(home?.join("hub"))),
            token,
            endpoint: endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            offline: matches!(offline.as_deref(), Some("1" | "true" | "yes" | "on")),
            retry_delay: Duration::from_millis(500),
            proxy_from_env: true,
        }
    }
}

/// A user's access token. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    /// The place where it was found, for messages.
    origin: String,
}

impl Token {
    /// Creates a token. `origin` describes where it comes from, for messages. Returns `None` if the text is
    /// blank.
    pub fn new(text: &str, origin: impl Into<String>) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self {
            text: text.to_owned(),
            origin: origin.into(),
        })
    }

    /// Creates a token from a variable that is set. A blank or invalid one is kept, so that it is reported
    /// later.
    fn from_variable(text: &str, origin: &str) -> Self {
        Self::new(text, origin).unwrap_or_else(|| Self {
            text: text.to_owned(),
            origin: origin.to_owned(),
        })
    }

    /// Reads the token in a file, if there is one.
    fn read(path: &Path) -> Option<Self> {
        let text = text::read(path, MAX_TOKEN).ok()?;
        Self::new(&text, format!("the file {}", path.display()))
    }

    /// Returns the place where it was found.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the secret.
    pub(super) fn secret(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.origin)
    }
}
