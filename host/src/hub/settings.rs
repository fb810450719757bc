//! Where the hub is, where its files are kept and who asks, as the hub's own tools are told it.

use merv_checkpoint::text;
use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The hub, unless `HF_ENDPOINT` names a mirror.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The file of the working directory that may hold a token, as MERV's own code reads it.
const TOKEN_FILE: &str = ".hf_token";

/// Bytes of a token's file at most.
const MAX_TOKEN: u64 = 1 << 16;

/// How the hub is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the cache, which holds `models--owner--name`. Absent where no home folder is
    /// known.
    pub cache: Option<PathBuf>,
    /// Who asks; public files need no token.
    pub token: Option<Token>,
    /// The address of the hub.
    pub endpoint: String,
    /// Whether nothing may be downloaded.
    pub offline: bool,
    /// How long to wait before what failed is tried again the first time; then twice as long, and so on.
    pub retry_delay: Duration,
    /// Whether requests go through the proxy of `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`, unless
    /// `NO_PROXY` excepts the host.
    pub proxy_from_env: bool,
}

/// The settings of the environment: see [`Settings::from_env`].
impl Default for Settings {
    fn default() -> Self {
        Self::from_env()
    }
}

impl Settings {
    /// What the environment says:
    ///
    /// * the cache: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, which is by default `huggingface` in
    ///   `XDG_CACHE_HOME` or `~/.cache`;
    /// * the token: `HF_TOKEN`, else the file `.hf_token` of the working directory, else the file that
    ///   `HF_TOKEN_PATH` names or `token` in `HF_HOME`, where the hub's tools put it;
    /// * the hub's address: `HF_ENDPOINT`;
    /// * no downloads: `HF_HUB_OFFLINE`, if it is `1`, `true`, `yes` or `on`.
    ///
    /// Empty variables count as unset.
    pub fn from_env() -> Self {
        Self::from_variables(&|name| env::var_os(name).map(PathBuf::from), Path::new(""))
    }

    /// As [`Self::from_env`], with the variables and the working directory given.
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
            .map(|value| Token::stated(&value.to_string_lossy(), "$HF_TOKEN"))
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

/// A user's access token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    /// Where it was found, for messages.
    origin: String,
}

impl Token {
    /// A token, and where it comes from, for messages. None if the text is blank.
    pub fn new(text: &str, origin: impl Into<String>) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self {
            text: text.to_owned(),
            origin: origin.into(),
        })
    }

    /// A token that somebody stated. One that is blank or not UTF-8 is kept, to be refused as what it is.
    fn stated(text: &str, origin: &str) -> Self {
        Self::new(text, origin).unwrap_or_else(|| Self {
            text: text.to_owned(),
            origin: origin.to_owned(),
        })
    }

    /// The token in a file, if there is one.
    fn read(path: &Path) -> Option<Self> {
        let text = text::read(path, MAX_TOKEN).ok()?;
        Self::new(&text, format!("the file {}", path.display()))
    }

    /// Where it was found.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The secret itself.
    pub(super) fn secret(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.origin)
    }
}
