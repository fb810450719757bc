//! Addresses: of a file on the hub, and of where a redirect leads.

use super::HubFile;
use ureq::http::Uri;

/// Whoever answers there may be told the token: the same scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an address; none if it is no absolute `http` or `https` one.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some(Self {
            scheme,
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(port),
        })
    }

    /// Whether what is sent there can be read on the way.
    fn is_open(&self) -> bool {
        self.scheme == "http"
    }
}

/// The address of a file at a revision.
pub(super) fn file_url(endpoint: &str, file: &HubFile, revision: &str) -> String {
    format!(
        "{}/{}/resolve/{}/{}",
        endpoint.trim_end_matches('/'),
        escaped(&file.repo, true),
        // The slash of a revision such as `refs/pr/1` is part of its name.
        escaped(revision, false),
        escaped(&file.file, true),
    )
}

/// The page of a repository, for people.
pub(super) fn page(endpoint: &str, repo: &str) -> String {
    format!("{}/{repo}", endpoint.trim_end_matches('/'))
}

/// Percent-encodes what has another meaning in a path.
fn escaped(text: &str, keep_slash: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Where the redirect `location` of the answer from `from` leads.
///
/// # Errors
///
/// Why it cannot be followed.
pub(super) fn redirected(from: &Uri, location: &str) -> Result<Uri, &'static str> {
    let (Some(scheme), Some(authority)) = (from.scheme_str(), from.authority()) else {
        return Err("its redirect has no base");
    };
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let unusable = "its redirect leads to no http or https address";
    let to: Uri = absolute.parse().map_err(|_| unusable)?;
    let (Some(old), Some(new)) = (Origin::of(from), Origin::of(&to)) else {
        return Err(unusable);
    };
    if new.is_open() && !old.is_open() {
        return Err("it redirects from https to http, where anyone on the way can change the file");
    }
    Ok(to)
}
