//! Requests to the hub: redirects, the token, refusals, and trying again.

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

/// Redirects followed for one request: the hub makes two or three.
const MAX_REDIRECTS: usize = 10;

/// Tries in a row that may fail: then it is given up.
const MAX_FAILURES: u32 = 5;

/// The longest wait between two tries.
const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long nothing may come.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request did not succeed.
pub(super) enum Failure {
    /// It may succeed another time: what went wrong.
    Passing(String, Option<Cause>),
    /// It will not.
    Final(HubError),
}

/// Asks the hub, as one user.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    /// Who may be told the token.
    origin: Origin,
    authorization: Option<HeaderValue>,
    /// Where the token was found.
    token_origin: Option<String>,
    retry_delay: Duration,
    /// Whether the hub has answered before, so that it is worth trying again.
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
            // Lengths and ranges are those of the file itself.
            .accept_encoding("identity")
            .http_status_as_error(false)
            // Followed here, so that the token stays with the hub.
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

    /// Asks for a file's commit, name and size.
    pub(super) fn locate(&self, file: &HubFile) -> Result<Remote, HubError> {
        let url = file_url(&self.endpoint, file, file.revision());
        let mut retries = self.retries();
        loop {
            let found = self
                .head(&url)
                .and_then(|answer| self.accepted(file, answer))
                .and_then(|answer| {
                    remote(answer.headers()).map_err(|what| {
                        Failure::Final(HubError::NotTheHub {
                            url: url.clone(),
                            what,
                        })
                    })
                });
            match found {
                Ok(remote) => return Ok(remote),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(what, source)) => {
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

    /// The answer about an address that describes the file: the hub's own, not that of the storage to
    /// which it redirects.
    fn head(&self, url: &str) -> Result<Response<Body>, Failure> {
        let describes = |answer: &Response<Body>| answer.headers().contains_key("x-linked-etag");
        self.send(Method::HEAD, url, None, describes)
    }

    /// The content of a file at a commit, from byte `start` on if the server can.
    pub(super) fn get(
        &self,
        file: &HubFile,
        commit: &str,
        start: u64,
    ) -> Result<Response<Body>, Failure> {
        let url = file_url(&self.endpoint, file, commit);
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let answer = self.send(Method::GET, &url, range, |_| false)?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        self.accepted(file, answer)
    }

    /// Sends a request and follows redirects, up to an answer that is none or that is `enough`.
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
                .map_err(|_| not_the_hub("its redirect cannot be sent"))?;
            let answer = self.agent.run(request).map_err(|error| {
                let host = uri.authority().map_or("", |authority| authority.as_str());
                Failure::Passing(format!("{host} could not be asked"), Some(Box::new(error)))
            })?;
            self.reached.set(true);
            if !answer.status().is_redirection() || enough(&answer) {
                return Ok(answer);
            }
            let location = text(answer.headers(), "location")
                .ok_or_else(|| not_the_hub("it redirects to nowhere"))?;
            uri = redirected(&uri, location).map_err(not_the_hub)?;
        }
        Err(not_the_hub("it redirects without end"))
    }

    /// The answer, unless it refuses.
    fn accepted(&self, file: &HubFile, answer: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            return Ok(answer);
        }
        let code = text(answer.headers(), "x-error-code").unwrap_or_default();
        let said = text(answer.headers(), "x-error-message").unwrap_or_default();
        let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
        if status.is_server_error()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
        {
            return Err(Failure::Passing(
                format!("it answered {status} {said}"),
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
                said,
            },
            _ => HubError::Refused {
                file,
                status: status.to_string(),
                said,
            },
        }))
    }

    /// The tries that one request has.
    pub(super) fn retries(&self) -> Retries {
        Retries {
            first: self.retry_delay,
            failures: 0,
        }
    }
}

/// Counts failures in a row, and waits longer after each.
pub(super) struct Retries {
    first: Duration,
    failures: u32,
}

impl Retries {
    /// There was progress: what failed before no longer counts.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try; false if there is none.
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
    // Other characters would be sent, or fail there as if the network did.
    let wrong = || HubError::Token(token.origin().to_owned());
    if !token.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.secret())).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What the hub says about a file.
///
/// # Errors
///
/// What it does not say.
fn remote(headers: &HeaderMap) -> Result<Remote, String> {
    let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
    let etag = etag.ok_or("it names no ETag")?;
    // A weak tag, `W/"…"`, names the same content.
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    check_name("ETag", etag)?;
    let commit = text(headers, "x-repo-commit").ok_or("it names no commit (X-Repo-Commit)")?;
    check_name("commit", commit)?;
    let size = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
    let size = size.and_then(|size| size.parse().ok());
    Ok(Remote {
        entry: Entry {
            commit: commit.to_owned(),
            etag: etag.to_owned(),
        },
        size: size.ok_or("it states no size")?,
    })
}

/// A header's text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
