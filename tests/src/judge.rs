//! A server that behaves like OpenAI's chat and batch services, or misbehaves on request.

use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A fault of one response.
#[derive(Debug, Clone)]
pub enum JudgeFault {
    /// The answer takes this long.
    Slow(Duration),
    /// Status 429 with a `Retry-After` of this many seconds.
    TooMany(u64),
    /// This status with an error of this code.
    Status(u16, &'static str),
    /// The connection is closed after the request was processed.
    Cut,
    /// Status 200 with a body that is not JSON.
    Nonsense,
    /// The judge replies with this text.
    Reply(&'static str),
}

#[derive(Default)]
struct State {
    faults: VecDeque<JudgeFault>,
    /// The prompts of the chat requests.
    chats: Vec<String>,
    /// When each request arrived.
    times: Vec<Instant>,
    authorization: Vec<Option<String>>,
    running: usize,
    most_at_once: usize,
    /// Uploaded files and results.
    files: Vec<String>,
    batches: Vec<Batch>,
    polls_until_done: usize,
    /// How many requests of each of the next batches are answered before the batch expires.
    expire_after: VecDeque<usize>,
    /// Whether the next batch fails.
    fail_batch: bool,
}

#[derive(Clone)]
struct Batch {
    input: usize,
    metadata: Value,
    polls: usize,
    status: &'static str,
    output: Option<usize>,
}

/// The server. It runs until the test program ends.
pub struct JudgeServer {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Default for JudgeServer {
    fn default() -> Self {
        Self::new()
    }
}

impl JudgeServer {
    /// A server whose verdict is `yes` and 5 if prediction and answer are the same text, and otherwise `no` and 1.
    ///
    /// # Panics
    ///
    /// If no local port is free.
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that disconnects does not fail the test.
                thread::spawn(move || {
                    let _ = serve(&stream, &state);
                });
            }
        });
        Self { state, port }
    }

    /// The address, for `OPENAI_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Adds faults of the next POST requests, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = JudgeFault>) {
        self.state().faults.extend(faults);
    }

    /// Sets how often a batch is polled before it is complete.
    pub fn finish_batches_after(&self, polls: usize) {
        self.state().polls_until_done = polls;
    }

    /// Lets the next batch expire after this many of its requests.
    pub fn expire_after(&self, requests: usize) {
        self.state().expire_after.push_back(requests);
    }

    /// Lets the next batch fail.
    pub fn fail_batch(&self) {
        self.state().fail_batch = true;
    }

    /// The number of chat requests.
    pub fn chats(&self) -> usize {
        self.state().chats.len()
    }

    /// The prompt of each chat request.
    pub fn asked(&self) -> Vec<String> {
        self.state().chats.clone()
    }

    /// The largest number of requests that were open at the same time.
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    /// When each request arrived.
    pub fn times(&self) -> Vec<Instant> {
        self.state().times.clone()
    }

    /// The `Authorization` header of each request.
    pub fn authorization(&self) -> Vec<Option<String>> {
        self.state().authorization.clone()
    }

    /// The number of requests in each batch.
    pub fn batches(&self) -> Vec<usize> {
        let state = self.state();
        let lines = |batch: &Batch| state.files[batch.input].lines().count();
        state.batches.iter().map(lines).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(request) = read(stream)? else {
        return Ok(());
    };
    let fault = {
        let mut state = lock(state);
        state.times.push(Instant::now());
        state.authorization.push(request.authorization.clone());
        state.running += 1;
        state.most_at_once = state.most_at_once.max(state.running);
        let asks = request.method == "POST";
        asks.then(|| state.faults.pop_front()).flatten()
    };
    if let Some(JudgeFault::Slow(time)) = fault {
        thread::sleep(time);
    }
    let answer = match &fault {
        Some(JudgeFault::TooMany(seconds)) => {
            Some((429, "slow_down", format!("Retry-After: {seconds}\r\n")))
        }
        Some(JudgeFault::Status(status, code)) => Some((*status, *code, String::new())),
        _ => None,
    };
    let (status, header, body) = match (answer, &fault) {
        (Some((status, code, header)), _) => {
            let error = json!({"error": {"message": "as the test wants", "code": code}});
            (status, header, error.to_string())
        }
        (None, Some(JudgeFault::Nonsense)) => (200, String::new(), "<html>hello</html>".to_owned()),
        (None, fault) => {
            let reply = match fault {
                Some(JudgeFault::Reply(reply)) => Some(*reply),
                _ => None,
            };
            let (status, body) = respond(&request, &mut lock(state), reply);
            (status, String::new(), body)
        }
    };
    lock(state).running -= 1;
    if matches!(fault, Some(JudgeFault::Cut)) {
        return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
    }
    let head = format!(
        "HTTP/1.1 {status} Said\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())
}

fn respond(request: &Request, state: &mut State, reply: Option<&str>) -> (u16, String) {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let body = match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["chat", "completions"]) => {
            let chat: Value = serde_json::from_str(&request.body).unwrap_or_default();
            let text = chat["messages"][1]["content"].as_str().unwrap_or_default();
            state.chats.push(text.to_owned());
            completion(&chat, reply)
        }
        ("POST", ["files"]) => {
            let id = state.files.len();
            let file = request.body.split("\r\n\r\n").nth(2).unwrap_or_default();
            let file = file.split("\r\n--").next().unwrap_or_default();
            state.files.push(file.to_owned());
            json!({"id": format!("file-{id}"), "object": "file"})
        }
        ("POST", ["batches"]) => {
            let asked: Value = serde_json::from_str(&request.body).unwrap_or_default();
            let status = match std::mem::take(&mut state.fail_batch) {
                true => "failed",
                false => "validating",
            };
            state.batches.push(Batch {
                input: number(asked["input_file_id"].as_str().unwrap_or_default()),
                metadata: asked["metadata"].clone(),
                polls: state.polls_until_done,
                status,
                output: None,
            });
            shown(state, state.batches.len() - 1)
        }
        ("GET", ["batches"]) => {
            let all = (0..state.batches.len()).map(|i| shown(state, i));
            json!({"data": all.collect::<Vec<_>>()})
        }
        ("GET", ["batches", id]) => {
            let index = number(id);
            advance(state, index);
            shown(state, index)
        }
        ("GET", ["files", id, "content"]) => return (200, state.files[number(id)].clone()),
        _ => {
            return (
                404,
                json!({"error": {"message": "no such page"}}).to_string(),
            );
        }
    };
    (200, body.to_string())
}

/// A verdict on the user's message.
fn completion(chat: &Value, reply: Option<&str>) -> Value {
    let text = chat["messages"][1]["content"].as_str().unwrap_or_default();
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let (answer, pred) = (line("Correct Answer: "), line("Predicted Answer: "));
    let verdict = match answer == pred {
        true => "{'pred': 'yes', 'score': 5}",
        false => "{'pred': 'no', 'score': 1}",
    };
    json!({"choices": [{"message": {"role": "assistant", "content": reply.unwrap_or(verdict)}}]})
}

/// Advances a batch by one poll.
fn advance(state: &mut State, index: usize) {
    let batch = state.batches[index].clone();
    if batch.status == "failed" || batch.output.is_some() {
        return;
    }
    if batch.polls > 0 {
        state.batches[index].polls -= 1;
        state.batches[index].status = "in_progress";
        return;
    }
    let limit = state.expire_after.pop_front();
    let results: Vec<String> = state.files[batch.input]
        .lines()
        .take(limit.unwrap_or(usize::MAX))
        .map(|line| {
            let request: Value = serde_json::from_str(line).unwrap_or_default();
            let body = completion(&request["body"], None);
            json!({
                "custom_id": request["custom_id"],
                "response": {"status_code": 200, "body": body}, "error": null,
            })
            .to_string()
        })
        .collect();
    state.files.push(results.join("\n"));
    state.batches[index].output = Some(state.files.len() - 1);
    state.batches[index].status = if limit.is_some() {
        "expired"
    } else {
        "completed"
    };
}

fn shown(State { batches, files, .. }: &State, index: usize) -> Value {
    let batch = &batches[index];
    let lines = |file: usize| files[file].lines().count();
    json!({
        "id": format!("batch-{index}"), "status": batch.status, "metadata": batch.metadata,
        "input_file_id": format!("file-{}", batch.input),
        "output_file_id": batch.output.map(|file| format!("file-{file}")),
        "errors": {"data": [{"message": "the input file is not valid"}]},
        "request_counts": {"total": lines(batch.input), "completed": batch.output.map_or(0, lines)},
    })
}

fn number(id: &str) -> usize {
    id.rsplit('-')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_default()
}

struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    body: String,
}

fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        authorization: None,
        body: String::new(),
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => request.authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(request))
}
