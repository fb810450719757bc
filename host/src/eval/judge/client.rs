//! Requests to an OpenAI-compatible service: trying again, waiting as long as it says, and telling what
//! another try would not mend.

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

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest wait between two tries that is our own idea.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The longest wait that a service may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// A failure of the same try is last_notice again after this: many threads may fail at once.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// Hosts that answer nobody without a key.
const HOSTS_THAT_NEED_A_KEY: [&str; 2] = ["openai.com", "openai.azure.com"];

/// Bytes of an answer at most: a batch's results may have 200 MB.
const MAX_ANSWER: u64 = 1 << 30;

/// Where the service is, and how patient to be.
#[derive(Clone)]
pub struct Service {
    /// The address that paths like `/chat/completions` follow.
    pub base_url: String,
    /// The key, if the service wants one.
    pub key: Option<String>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Tries of one request at most.
    pub tries: u32,
    /// The wait after the first that failed; it doubles.
    pub first_delay: Duration,
    /// Hears of failures that may pass, while they are waited for.
    pub notices: Notices,
}

/// Takes a notice; it may come from any thread.
pub type Notices = Arc<dyn Fn(&str) + Send + Sync>;

/// Asks the service. May be used from many threads: when one is last_notice to wait, all do.
pub(super) struct Client {
    agent: Agent,
    service: Service,
    authorization: Option<HeaderValue>,
    not_before: Mutex<Instant>,
    /// When a failure was last_notice last, and of which try.
    last_notice: Mutex<Option<(Instant, u32)>>,
}

/// A body and what it is.
#[derive(Clone, Copy)]
pub(super) enum Content<'b> {
    Nothing,
    Json(&'b Value),
    /// A form of this content type.
    Form(&'b str, &'b [u8]),
}

/// Why one try did not succeed.
enum Failure {
    /// Another may: what went wrong, and how long the service wants us to wait.
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

    /// Asks until there is an answer: its bytes.
    pub(super) fn bytes(&self, path: &str, content: Content<'_>) -> Result<Vec<u8>, JudgeError> {
        self.retried(path, |client| client.once(path, content))
    }

    /// Asks until there is an answer that is JSON and from which `take` takes something.
    pub(super) fn json<T>(
        &self,
        path: &str,
        content: Content<'_>,
        take: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, JudgeError> {
        self.retried(path, |client| client.one_json(path, content, &take))
    }

    /// Asks once; a failure that may pass is a value, in words.
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
            Err(Failure::Transient(what, asked)) => {
                if let Some(asked) = asked {
                    self.pause(asked.min(MAX_RETRY_AFTER));
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
            Failure::Transient(format!("it answered something else: {text}"), None)
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
                Err(Failure::Transient(last, asked)) => {
                    tries += 1;
                    if tries >= self.service.tries {
                        let url = self.url(path);
                        return Err(JudgeError::GaveUp { url, tries, last });
                    }
                    let asked = asked.map(|asked| asked.min(MAX_RETRY_AFTER));
                    self.notify(path, &last, tries, asked.unwrap_or(delay));
                    match asked {
                        Some(asked) => self.pause(asked),
                        None => thread::sleep(delay),
                    }
                    delay = (delay * 2).min(MAX_DELAY);
                }
            }
        }
    }

    /// Says that a request failed and is tried again.
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
                "{url}: {why}; trying again in {wait:.1} s ({next} of {most})"
            ));
        }
    }

    /// Asks once.
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
        let asked = retry_after(answer.headers());
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec();
        let body = body.map_err(|error| Failure::Transient(error.to_string(), None))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(self.refused(&url, status, asked, &body))
    }

    fn refused(
        &self,
        url: &str,
        status: StatusCode,
        asked: Option<Duration>,
        body: &[u8],
    ) -> Failure {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = value.pointer("/error/message").and_then(Value::as_str);
        let said = one_line(said.unwrap_or(&String::from_utf8_lossy(body)));
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
        // What is not paid for does not come with waiting.
        if transient && code != "insufficient_quota" {
            return Failure::Transient(format!("it answered {status}: {said}"), asked);
        }
        Failure::Permanent(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => JudgeError::Denied {
                url: url.to_owned(),
                said,
                with_key: self.authorization.is_some(),
            },
            StatusCode::BAD_REQUEST if ["content_filter", "invalid_prompt"].contains(&code) => {
                JudgeError::Filtered(said)
            }
            _ => JudgeError::Refused {
                url: url.to_owned(),
                status: status.as_u16(),
                said,
            },
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.service.base_url.trim_end_matches('/'))
    }

    /// Until all may ask again.
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

/// How long the service wants us to wait. A date, which the header may hold too, is left to our own idea.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| -> Option<f64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    let seconds = number("retry-after-ms")
        .map(|ms| ms / 1000.0)
        .or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// What a service said, in one line.
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
    fn only_services_that_are_known_to_want_a_key_are_refused_without() {
        for (url, wants) in [
            ("https://api.openai.com/v1", true),
            ("https://api.openai.com:443/v1", true),
            ("https://mine.openai.azure.com/openai/v1", true),
            ("http://localhost:8000/v1", false),
            ("https://openai.com.example.org/v1", false),
            ("https://notopenai.com/v1", false),
            ("no address", false),
        ] {
            assert_eq!(needs_key(url), wants, "{url}");
        }
    }

    #[test]
    fn a_service_says_how_long_to_wait_in_seconds_or_milliseconds() {
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
