//! Requests to the hub: redirects, the token, error responses and retries.

use super::{
    HubError, HubFile, Remote, Settings, Token,
    address::{Origin, file_url, page, redirected},
    cache::check_name,
    error::Cause,
    file::Entry,
};
use std::{cell::Cell, thread, time::Duration};
use ureq::{
    Agent, Body,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
};

/// The maximum number of redirects of one request. The hub uses two or three.
const MAX_REDIRECTS: usize = 10;

/// The maximum number of failed attempts in a row.
const MAX_FAILURES: u32 = 5;

/// The longest wait between two attempts.
const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// The time limit to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The time limit without any data.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request failed.
pub(super) enum Failure {
    /// A retry may succeed. Contains a description and the cause.
    Temporary(String, Option<Cause>),
    /// A retry is useless.
    Final(HubError),
}

/// An HTTP client for the hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    /// The only origin that the token is sent to.
    origin: Origin,
    authorization: Option<HeaderValue>,
    /// The place where the token was found.
    token_origin: Option<String>,
    retry_delay: Duration,
    /// Whether the hub has responded before. Only then is a retry worthwhile.
    reached: Cell<bool>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, HubError> {
        let origin = settings.endpoint.parse().ok();
        let origin = origin
            .as_ref()
            .and_then(Origin::of)
            .ok_or_else(|| HubError::Endpoint(settings.endpoint.clone()))?;
        let authorization = settings.token.as_ref().map(authorization).transpose()?;
        let mut config = Agent::config_builder()
            .user_agent(concat!("merv-host/", env!("CARGO_PKG_VERSION")))
            // Lengths and ranges must refer to the file itself.
            .accept_encoding("identity")
            .http_status_as_error(false)
            // Redirects are followed in `send`, so that the token is sent only to the hub.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT));
        if !settings.proxy_from_env {
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            endpoint: settings.endpoint.clone(),
            origin,
            authorization,
            token_origin: settings
                .token
                .as_ref()
                .map(|token| token.origin().to_owned()),
            retry_delay: settings.retry_delay,
            reached: Cell::new(false),
        })
    }

    /// Requests the commit, the name and the size of a file.
    pub(super) fn locate(&self, file: &HubFile) -> Result<Remote, HubError> {
        let url = file_url(&self.endpoint, file, file.revision());
        let mut retries = self.retries();
        loop {
            let found = self
                .head(&url)
                .and_then(|response| self.accepted(file, response))
                .and_then(|response| {
                    remote(response.headers()).map_err(|what| {
                        Failure::Final(HubError::NotTheHub {
                            url: url.clone(),
                            what,
                        })
                    })
                });
            match found {
                Ok(remote) => return Ok(remote),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Temporary(what, source)) => {
                    if !self.reached.get() || !retries.wait() {
                        return Err(HubError::Unreachable {
                            file: file.to_string(),
                            endpoint: self.endpoint.clone(),
                            what,
                            source,
                        });
                    }
                }
            }
        }
    }

    /// Requests the description of a file. It is in the hub's own response, not in that of the storage to
    /// which the hub redirects.
    fn head(&self, url: &str) -> Result<Response<Body>, Failure> {
        let describes =
            |response: &Response<Body>| response.headers().contains_key("x-linked-etag");
        self.send(Method::HEAD, url, None, describes)
    }

    /// Requests the contents of a file at a commit, from byte `start` if the server supports ranges.
    pub(super) fn get(
        &self,
        file: &HubFile,
        commit: &str,
        start: u64,
    ) -> Result<Response<Body>, Failure> {
        let url = file_url(&self.endpoint, file, commit);
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let response = self.send(Method::GET, &url, range, |_| false)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        self.accepted(file, response)
    }

    /// Sends a request and follows redirects. Stops at the first response that is not a redirect, or for which
    /// `enough` returns `true`.
    fn send(
        &self,
        method: Method,
        url: &str,
        range: Option<String>,
        enough: impl Fn(&Response<Body>) -> bool,
    ) -> Result<Response<Body>, Failure> {
        let not_the_hub = |what: &str| {
            Failure::Final(HubError::NotTheHub {
                url: url.to_owned(),
                what: what.to_owned(),
            })
        };
        let mut uri: Uri = url
            .parse()
            .map_err(|_| Failure::Final(HubError::Endpoint(self.endpoint.clone())))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(method.clone()).uri(uri.clone());
            if let Some(range) = &range {
                request = request.header(header::RANGE, range);
            }
            if let Some(authorization) = &self.authorization
                && Origin::of(&uri).as_ref() == Some(&self.origin)
            {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request
                .body(())
                .map_err(|_| not_the_hub("it redirects to an invalid URL"))?;
            let response = self.agent.run(request).map_err(|error| {
                let host = uri.authority().map_or("", |authority| authority.as_str());
                let what = format!("the request to {host} failed");
                Failure::Temporary(what, Some(Box::new(error)))
            })?;
            self.reached.set(true);
            if !response.status().is_redirection() || enough(&response) {
                return Ok(response);
            }
            let location = text(response.headers(), "location")
                .ok_or_else(|| not_the_hub("it redirects without a target"))?;
            uri = redirected(&uri, location).map_err(not_the_hub)?;
        }
        Err(not_the_hub("it redirects too many times"))
    }

    /// Returns the response if its status is a success or a redirect, and an error otherwise.
    fn accepted(
        &self,
        file: &HubFile,
        response: Response<Body>,
    ) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        let code = text(response.headers(), "x-error-code").unwrap_or_default();
        let message = text(response.headers(), "x-error-message").unwrap_or_default();
        let message: String = message
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        if status.is_server_error()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
        {
            return Err(Failure::Temporary(
                format!("the response was {status} {message}"),
                None,
            ));
        }
        let page = page(&self.endpoint, &file.repo);
        let file = file.to_string();
        let token = self.token_origin.clone();
        Err(Failure::Final(match (status, code) {
            (_, "GatedRepo") => HubError::Gated { file, page, token },
            (_, "RevisionNotFound") => HubError::NoRevision { file, page },
            (_, "EntryNotFound") => HubError::NoFile { file, page },
            (_, "RepoNotFound") => HubError::NoRepository { file, page, token },
            (StatusCode::NOT_FOUND, _) => HubError::NoFile { file, page },
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => HubError::Denied {
                file,
                page,
                token,
                status: status.to_string(),
                message,
            },
            _ => HubError::Refused {
                file,
                status: status.to_string(),
                message,
            },
        }))
    }

    /// Returns a counter for the retries of one request.
    pub(super) fn retries(&self) -> Retries {
        Retries {
            first: self.retry_delay,
            failures: 0,
        }
    }
}

/// Counts failures in a row. The wait doubles after each failure.
pub(super) struct Retries {
    first: Duration,
    failures: u32,
}

impl Retries {
    /// Resets the counter after progress.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt. Returns `false` if no attempt is left.
    pub(super) fn wait(&mut self) -> bool {
        if self.failures >= MAX_FAILURES {
            return false;
        }
        thread::sleep((self.first * 2u32.pow(self.failures)).min(LONGEST_DELAY));
        self.failures += 1;
        true
    }
}

fn authorization(token: &Token) -> Result<HeaderValue, HubError> {
    // Other characters would be sent, or would fail with an error that looks like a network failure.
    let invalid = || HubError::Token(token.origin().to_owned());
    if !token.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid());
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.secret())).map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the description of a file from the headers of the hub's response.
///
/// # Errors
///
/// Returns a message about the header that is missing or invalid.
fn remote(headers: &HeaderMap) -> Result<Remote, String> {
    let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
    let etag = etag.ok_or("the ETag is missing")?;
    // A weak tag, `W/"…"`, identifies the same content.
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    check_name("ETag", etag)?;
    let commit = text(headers, "x-repo-commit").ok_or("the header X-Repo-Commit is missing")?;
    check_name("commit", commit)?;
    let size = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
    let size = size.and_then(|size| size.parse().ok());
    Ok(Remote {
        entry: Entry {
            commit: commit.to_owned(),
            etag: etag.to_owned(),
        },
        size: size.ok_or("the size is missing")?,
    })
}

/// Returns the text of a header.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
