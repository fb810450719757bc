//! Requests to an OpenAI-compatible service. Transient failures are retried after the wait that the service
//! requests; permanent ones are errors.

use super::JudgeError;
use crate::messages::shortened;
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use ureq::{
    Agent,
    http::{HeaderMap, HeaderValue, Request, StatusCode, Uri},
};

/// The timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest wait between two attempts, unless the service requests a wait.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The longest wait that a service may request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The minimum time between notices about the same attempt: many threads can fail at the same time.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// Hosts that require a key.
const HOSTS_THAT_NEED_A_KEY: [&str; 2] = ["openai.com", "openai.azure.com"];

/// The maximum size of an answer in bytes: the results of a batch can have 200 MB.
const MAX_ANSWER: u64 = 1 << 30;

/// A service, with its timeouts and retries.
#[derive(Clone)]
pub struct Service {
    /// The base URL, to which paths like `/chat/completions` are appended.
    pub base_url: String,
    /// The key, if the service requires one.
    pub key: Option<String>,
    /// The timeout of a request.
    pub timeout: Duration,
    /// The maximum number of attempts for a request.
    pub tries: u32,
    /// The wait after the first failed attempt. It doubles with each further attempt.
    pub first_delay: Duration,
    /// Receives notices of transient failures.
    pub notices: Notices,
}

/// Receives notices, from any thread.
pub type Notices = Arc<dyn Fn(&str) + Send + Sync>;

/// The client of a service. Several threads can share it: if the service asks one to wait, all wait.
pub(super) struct Client {
    agent: Agent,
    service: Service,
    authorization: Option<HeaderValue>,
    not_before: Mutex<Instant>,
    /// The time of the last notice, and the attempt that it was about.
    last_notice: Mutex<Option<(Instant, u32)>>,
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum Content<'b> {
    Nothing,
    Json(&'b Value),
    /// A form with this content type.
    Form(&'b str, &'b [u8]),
}

/// Why an attempt failed.
enum Failure {
    /// A retry may succeed. Contains the error, and the wait that the service requests.
    Transient(String, Option<Duration>),
    Permanent(JudgeError),
}

impl Client {
    pub(super) fn new(service: &Service) -> Result<Self, JudgeError> {
        if service.key.is_none() && needs_key(&service.base_url) {
            let url = service.base_url.clone();
            return Err(JudgeError::NoKey { url });
        }
        let authorization = service.key.as_ref().map(|key| {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| JudgeError::BadKey)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let config = Agent::config_builder()
            .user_agent(concat!("merv-host/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(service.timeout));
        Ok(Self {
            agent: config.build().new_agent(),
            authorization: authorization.transpose()?,
            service: service.clone(),
            not_before: Mutex::new(Instant::now()),
            last_notice: Mutex::new(None),
        })
    }

    /// Sends a request until it is answered. Returns the bytes of the answer.
    pub(super) fn bytes(&self, path: &str, content: Content<'_>) -> Result<Vec<u8>, JudgeError> {
        self.retried(path, |client| client.once(path, content))
    }

    /// Sends a request until the answer is JSON from which `take` returns a value.
    pub(super) fn json<T>(
        &self,
        path: &str,
        content: Content<'_>,
        take: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, JudgeError> {
        self.retried(path, |client| client.one_json(path, content, &take))
    }

    /// Sends a request once. A transient failure is returned as a message in the inner result.
    pub(super) fn json_once<T>(
        &self,
        path: &str,
        content: Content<'_>,
        take: impl Fn(&Value) -> Option<T>,
    ) -> Result<Result<T, String>, JudgeError> {
        self.wait();
        match self.one_json(path, content, &take) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Failure::Permanent(error)) => Err(error),
            Err(Failure::Transient(what, requested)) => {
                if let Some(requested) = requested {
                    self.pause(requested.min(MAX_RETRY_AFTER));
                }
                Ok(Err(what))
            }
        }
    }

    fn one_json<T>(
        &self,
        path: &str,
        content: Content<'_>,
        take: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, Failure> {
        let bytes = self.once(path, content)?;
        let value = serde_json::from_slice::<Value>(&bytes).ok();
        value.as_ref().and_then(&take).ok_or_else(|| {
            let text = one_line(&String::from_utf8_lossy(&bytes));
            Failure::Transient(format!("unexpected answer: {text}"), None)
        })
    }

    fn retried<T>(
        &self,
        path: &str,
        ask: impl Fn(&Self) -> Result<T, Failure>,
    ) -> Result<T, JudgeError> {
        let mut delay = self.service.first_delay;
        let mut tries = 0;
        loop {
            self.wait();
            match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Permanent(error)) => return Err(error),
                Err(Failure::Transient(last, requested)) => {
                    tries += 1;
                    if tries >= self.service.tries {
                        let url = self.url(path);
                        return Err(JudgeError::GaveUp { url, tries, last });
                    }
                    let requested = requested.map(|requested| requested.min(MAX_RETRY_AFTER));
                    self.notify(path, &last, tries, requested.unwrap_or(delay));
                    match requested {
                        Some(requested) => self.pause(requested),
                        None => thread::sleep(delay),
                    }
                    delay = (delay * 2).min(MAX_DELAY);
                }
            }
        }
    }

    /// Reports that a request failed and is retried.
    fn notify(&self, path: &str, why: &str, tries: u32, wait: Duration) {
        let mut last_notice = self
            .last_notice
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_known =
            last_notice.is_some_and(|(when, of)| tries <= of && when.elapsed() < NOTICE_INTERVAL);
        if !is_known {
            *last_notice = Some((Instant::now(), tries));
            let (url, most) = (self.url(path), self.service.tries);
            let (wait, next) = (wait.as_secs_f64(), tries + 1);
            (self.service.notices)(&format!(
                "{url}: {why}; retrying in {wait:.1} s (attempt {next} of {most})"
            ));
        }
    }

    /// Sends a request once.
    fn once(&self, path: &str, content: Content<'_>) -> Result<Vec<u8>, Failure> {
        let url = self.url(path);
        let mut request = Request::builder().uri(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let wrong = |_| Failure::Permanent(JudgeError::BadUrl(self.service.base_url.clone()));
        let sent = match content {
            Content::Nothing => self.agent.run(request.body(()).map_err(wrong)?),
            Content::Json(value) => {
                let request = request
                    .method("POST")
                    .header("Content-Type", "application/json");
                self.agent
                    .run(request.body(value.to_string()).map_err(wrong)?)
            }
            Content::Form(kind, bytes) => {
                let request = request.method("POST").header("Content-Type", kind);
                self.agent.run(request.body(bytes).map_err(wrong)?)
            }
        };
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(ureq::Error::BadUri(_)) => {
                return Err(Failure::Permanent(JudgeError::BadUrl(
                    self.service.base_url.clone(),
                )));
            }
            Err(error) => return Err(Failure::Transient(error.to_string(), None)),
        };
        let status = answer.status();
        let requested = retry_after(answer.headers());
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec();
        let body = body.map_err(|error| Failure::Transient(error.to_string(), None))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(self.refused(&url, status, requested, &body))
    }

    fn refused(
        &self,
        url: &str,
        status: StatusCode,
        requested: Option<Duration>,
        body: &[u8],
    ) -> Failure {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = value.pointer("/error/message").and_then(Value::as_str);
        let message = one_line(message.unwrap_or(&String::from_utf8_lossy(body)));
        let code = value
            .pointer("/error/code")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let transient = status.is_server_error()
            || [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::REQUEST_TIMEOUT,
                StatusCode::CONFLICT,
            ]
            .contains(&status);
        // Waiting does not help if the quota of the account is used up.
        if transient && code != "insufficient_quota" {
            return Failure::Transient(
                format!("the service answered {status}: {message}"),
                requested,
            );
        }
        Failure::Permanent(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => JudgeError::Denied {
                url: url.to_owned(),
                message,
                with_key: self.authorization.is_some(),
            },
            StatusCode::BAD_REQUEST if ["content_filter", "invalid_prompt"].contains(&code) => {
                JudgeError::Filtered(message)
            }
            _ => JudgeError::Refused {
                url: url.to_owned(),
                status: status.as_u16(),
                message,
            },
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.service.base_url.trim_end_matches('/'))
    }

    /// Waits until requests may be sent again.
    fn wait(&self) {
        loop {
            let until = *self
                .not_before
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left);
        }
    }

    fn pause(&self, time: Duration) {
        let mut until = self
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Instant::now() + time);
    }
}

fn needs_key(base_url: &str) -> bool {
    let uri: Option<Uri> = base_url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    HOSTS_THAT_NEED_A_KEY.into_iter().any(|name| {
        let before = host.strip_suffix(name);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// Returns the wait that the service requests. Returns `None` for a date, which the header can also contain.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| -> Option<f64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    let seconds = number("retry-after-ms")
        .map(|ms| ms / 1000.0)
        .or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Returns the message of a service in one line.
fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    shortened(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_services_require_a_key() {
        for (url, expected) in [
            ("https://api.openai.com/v1", true),
            ("https://api.openai.com:443/v1", true),
            ("https://mine.openai.azure.com/openai/v1", true),
            ("http://localhost:8000/v1", false),
            ("https://openai.com.example.org/v1", false),
            ("https://notopenai.com/v1", false),
            ("not a URL", false),
        ] {
            assert_eq!(needs_key(url), expected, "{url}");
        }
    }

    #[test]
    fn a_requested_wait_is_in_seconds_or_milliseconds() {
        for (headers, expected) in [
            (&[("retry-after", "2")][..], Some(2000)),
            (&[("retry-after", " 0.5 ")], Some(500)),
            (&[("retry-after-ms", "1500")], Some(1500)),
            (
                &[("retry-after-ms", "250"), ("retry-after", "9")],
                Some(250),
            ),
            (&[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], None),
            (&[("retry-after", "-1")], None),
            (&[], None),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            assert_eq!(
                retry_after(&map),
                expected.map(Duration::from_millis),
                "{headers:?}"
            );
        }
    }
}
