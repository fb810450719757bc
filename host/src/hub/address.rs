//! URLs of files on the hub, and targets of redirects.

use super::HubFile;
use ureq::http::Uri;

/// The scheme, host and port of a URL. The token is sent only to the origin of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of a URL, or `None` if it is not an absolute `http` or `https` URL.
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

    /// Returns whether the connection is not encrypted.
    fn is_unencrypted(&self) -> bool {
        self.scheme == "http"
    }
}

/// Returns the URL of a file at a revision.
pub(super) fn file_url(endpoint: &str, file: &HubFile, revision: &str) -> String {
    format!(
        "{}/{}/resolve/{}/{}",
        endpoint.trim_end_matches('/'),
        escaped(&file.repo, true),
        // The slashes of a revision such as `refs/pr/1` are part of its name.
        escaped(revision, false),
        escaped(&file.file, true),
    )
}

/// Returns the URL of a repository's web page.
pub(super) fn page(endpoint: &str, repo: &str) -> String {
    format!("{}/{repo}", endpoint.trim_end_matches('/'))
}

/// Percent-encodes characters that have a special meaning in a path.
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

/// Returns the target of a redirect: `location` relative to `from`.
///
/// # Errors
///
/// Returns the reason why the redirect cannot be followed.
pub(super) fn redirected(from: &Uri, location: &str) -> Result<Uri, &'static str> {
    let (Some(scheme), Some(authority)) = (from.scheme_str(), from.authority()) else {
        return Err("it redirects from a URL without a host");
    };
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let unusable = "it redirects to something that is not an http or https URL";
    let to: Uri = absolute.parse().map_err(|_| unusable)?;
    let (Some(old), Some(new)) = (Origin::of(from), Origin::of(&to)) else {
        return Err(unusable);
    };
    if new.is_unencrypted() && !old.is_unencrypted() {
        return Err("it redirects from https to http, where the file could be changed in transit");
    }
    Ok(to)
}
