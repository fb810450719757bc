//! A server that behaves like the Hugging Face hub, or misbehaves on request.
//!
//! It listens on two local ports. One is the hub, which serves repositories and checks tokens. The other is the storage
//! of large files, to which the hub redirects. The storage must never receive a token.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The commit of every revision of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The token that grants access to gated repositories.
pub const TOKEN: &str = "hf_right";

/// A fault of one response.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The hub answers a request for a file with this status, error code and message.
    Status(u16, &'static str, &'static str),
    /// The hub's answer has this header instead of its own.
    Header(&'static str, String),
    /// The hub redirects a request for a file to this address, without further headers.
    Redirect(String),
    /// The connection is closed after this many bytes of content.
    Cut(usize),
    /// The first byte of the content is changed.
    Damaged,
    /// This many extra bytes are announced and sent.
    Longer(usize),
    /// The whole file is sent, although a range was requested.
    WholeFile,
    /// A different range is sent than was requested.
    OtherRange,
    /// The content is sent this long after the header.
    Slow(Duration),
}

/// A request that the server received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRequest {
    /// Whether it went to the storage rather than the hub.
    pub storage: bool,
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

/// Where the hub stores a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// In the storage of large files, under its SHA-256.
    Large,
    /// In the repository itself.
    Small,
}

#[derive(Clone)]
struct File {
    content: Arc<Vec<u8>>,
    etag: String,
    kind: FileKind,
}

#[derive(Default)]
struct State {
    /// By `owner/name` and path.
    files: BTreeMap<(String, String), File>,
    gated: Vec<String>,
    faults: VecDeque<Fault>,
    seen: Vec<HubRequest>,
}

/// The server. It runs until the test program ends.
pub struct HubServer {
    state: Arc<Mutex<State>>,
    hub: u16,
    storage: u16,
}

impl Default for HubServer {
    fn default() -> Self {
        Self::new()
    }
}

impl HubServer {
    /// A hub without files.
    ///
    /// # Panics
    ///
    /// If no local port is free.
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = |listener: &TcpListener| listener.local_addr().expect("a bound port").port();
        let (hub, storage) = (bind(), bind());
        let server = Self {
            state: Arc::clone(&state),
            hub: port(&hub),
            storage: port(&storage),
        };
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let (state, storage) = (Arc::clone(&state), server.storage);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    // A client that disconnects does not fail the test.
                    thread::spawn(move || {
                        let _ = serve(&stream, &state, is_storage, storage);
                    });
                }
            });
        }
        server
    }

    /// The address of the hub, for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.hub)
    }

    /// The address of the same hub under another host name.
    pub fn other_name(&self) -> String {
        format!("http://localhost:{}", self.hub)
    }

    /// Adds a file to a repository and returns its ETag.
    pub fn add(
        &self,
        repo: &str,
        path: &str,
        content: impl Into<Vec<u8>>,
        kind: FileKind,
    ) -> String {
        let content = content.into();
        let etag = match kind {
            FileKind::Large => crate::sha256(&content),
            // The hub sends git's SHA-1. Any 40 digits work here.
            FileKind::Small => crate::sha256(&content)[..40].to_owned(),
        };
        let file = File {
            content: Arc::new(content),
            etag: etag.clone(),
            kind,
        };
        let key = (repo.to_owned(), path.to_owned());
        self.state().files.insert(key, file);
        etag
    }

    /// Requires [`TOKEN`] for a repository.
    pub fn gate(&self, repo: &str) {
        self.state().gated.push(repo.to_owned());
    }

    /// Adds faults of the next responses, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Returns the requests since the last call, and forgets them.
    pub fn seen(&self) -> Vec<HubRequest> {
        std::mem::take(&mut self.state().seen)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The head of a response.
struct Head {
    status: u16,
    headers: Vec<(&'static str, String)>,
}

impl Head {
    fn new(status: u16, headers: impl Into<Vec<(&'static str, String)>>) -> Self {
        Self {
            status,
            headers: headers.into(),
        }
    }

    fn refused(status: u16, code: &str, message: &str) -> Self {
        let mut headers = vec![("Content-Length", "0".to_owned())];
        for (name, value) in [("X-Error-Code", code), ("X-Error-Message", message)] {
            if !value.is_empty() {
                headers.push((name, value.to_owned()));
            }
        }
        Self::new(status, headers)
    }

    fn write(&self, stream: &mut &TcpStream) -> std::io::Result<()> {
        let mut text = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        stream.write_all((text + "\r\n").as_bytes())
    }
}

/// Answers one request.
fn serve(
    mut stream: &TcpStream,
    state: &Mutex<State>,
    is_storage: bool,
    storage: u16,
) -> std::io::Result<()> {
    let Some(request) = read_request(stream, is_storage)? else {
        return Ok(());
    };
    lock(state).seen.push(request.clone());
    let with_body = request.method == "GET";
    let asked = if is_storage {
        let digest = request.path.trim_start_matches("/blob/");
        let digest = digest.split('?').next().unwrap_or_default().to_owned();
        let files = &lock(state).files;
        files.values().find(|file| file.etag == digest).cloned()
    } else {
        match about_file(&request, &mut lock(state), storage) {
            Ok(file) => Some(file),
            Err(head) => return head.write(&mut stream),
        }
    };
    match asked {
        Some(file) => send(stream, &request, &file, state, with_body),
        None => Head::refused(404, "", "no such object").write(&mut stream),
    }
}

/// The hub's response: the content of a small file, a redirect or a refusal.
fn about_file(request: &HubRequest, state: &mut State, storage: u16) -> Result<File, Head> {
    // /owner/name/resolve/revision/path, or the address to which the hub redirects for small files.
    let (path, direct) = match request.path.strip_prefix("/api/resolve-cache/models/") {
        Some(rest) => (rest, true),
        None => (request.path.trim_start_matches('/'), false),
    };
    let path = path.replace("%2F", "\u{1}").replace("%20", " ");
    let mut parts = path.splitn(if direct { 4 } else { 5 }, '/');
    let mut part = || parts.next().unwrap_or_default().replace('\u{1}', "/");
    let repo = format!("{}/{}", part(), part());
    if !direct && part() != "resolve" {
        return Err(Head::refused(404, "", "no such page"));
    }
    let (revision, path) = (part(), part());
    if let Some(Fault::Status(status, code, message)) = next_fault(state, is_status) {
        return Err(Head::refused(status, code, message));
    }
    if let Some(Fault::Redirect(to)) = next_fault(state, is_redirect) {
        let headers = [("Content-Length", "0".to_owned()), ("Location", to)];
        return Err(Head::new(307, headers));
    }
    let known: Vec<&String> = state.files.keys().map(|(repo, _)| repo).collect();
    let authorised = request.authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
    if !known.contains(&&repo) {
        return Err(match authorised {
            true => Head::refused(404, "RepoNotFound", "Repository not found"),
            false => Head::refused(401, "RepoNotFound", "Invalid username or password."),
        });
    }
    if state.gated.contains(&repo) && !authorised {
        let status = if request.authorization.is_some() {
            403
        } else {
            401
        };
        return Err(Head::refused(
            status,
            "GatedRepo",
            "Access to this model is restricted.",
        ));
    }
    if !["main", "refs/pr/1", COMMIT].contains(&revision.as_str()) {
        return Err(Head::refused(404, "RevisionNotFound", "Invalid rev id"));
    }
    let Some(file) = state.files.get(&(repo.clone(), path.clone())).cloned() else {
        return Err(Head::refused(404, "EntryNotFound", "Entry not found"));
    };
    let mut headers = vec![
        ("Content-Length", "0".to_owned()),
        ("X-Repo-Commit", COMMIT.to_owned()),
    ];
    let status = match file.kind {
        FileKind::Small if direct => return Ok(file),
        FileKind::Small => {
            let to = format!("/api/resolve-cache/models/{repo}/{COMMIT}/{path}");
            headers.push(("Location", to.replace(' ', "%20")));
            307
        }
        FileKind::Large => {
            let etag = &file.etag;
            headers.push(("X-Linked-Etag", format!("\"{etag}\"")));
            headers.push(("X-Linked-Size", file.content.len().to_string()));
            headers.push((
                "Location",
                format!("http://127.0.0.1:{storage}/blob/{etag}?signature=s"),
            ));
            302
        }
    };
    while let Some(Fault::Header(name, value)) = next_fault(state, is_header) {
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value));
    }
    Err(Head::new(status, headers))
}

fn is_status(fault: &Fault) -> bool {
    matches!(fault, Fault::Status(..))
}

fn is_redirect(fault: &Fault) -> bool {
    matches!(fault, Fault::Redirect(_))
}

fn is_content(fault: &Fault) -> bool {
    !is_status(fault) && !is_header(fault) && !is_redirect(fault)
}

fn is_header(fault: &Fault) -> bool {
    matches!(fault, Fault::Header(..))
}

/// Takes the next fault if it applies here.
fn next_fault(state: &mut State, applies: fn(&Fault) -> bool) -> Option<Fault> {
    let next = state.faults.front().is_some_and(applies);
    next.then(|| state.faults.pop_front()).flatten()
}

/// Sends the content of a file, or the requested range.
fn send(
    mut stream: &TcpStream,
    request: &HubRequest,
    file: &File,
    state: &Mutex<State>,
    with_body: bool,
) -> std::io::Result<()> {
    let fault = with_body
        .then(|| next_fault(&mut lock(state), is_content))
        .flatten();
    let total = file.content.len();
    let start = request.range.as_deref().and_then(|range| {
        let start = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        start.parse::<usize>().ok()
    });
    let start = start.filter(|_| !matches!(fault, Some(Fault::WholeFile)));
    if start.is_some_and(|start| start >= total) {
        let range = vec![
            ("Content-Range", format!("bytes */{total}")),
            ("Content-Length", "0".to_owned()),
        ];
        return Head::new(416, range).write(&mut stream);
    }
    let mut body = file.content[start.unwrap_or(0)..].to_vec();
    let mut headers = vec![("ETag", format!("\"{}\"", file.etag))];
    if file.kind == FileKind::Small {
        headers.push(("X-Repo-Commit", COMMIT.to_owned()));
    }
    if let Some(start) = start {
        let start = match fault {
            Some(Fault::OtherRange) => start + 1,
            _ => start,
        };
        let last = total - 1;
        headers.push(("Content-Range", format!("bytes {start}-{last}/{total}")));
    }
    match fault {
        Some(Fault::Damaged) => body[0] ^= 1,
        Some(Fault::Longer(extra)) => body.resize(body.len() + extra, 0),
        _ => {}
    }
    headers.push(("Content-Length", body.len().to_string()));
    let status = if start.is_some() { 206 } else { 200 };
    Head::new(status, headers).write(&mut stream)?;
    match fault {
        Some(Fault::Cut(bytes)) => body.truncate(bytes),
        Some(Fault::Slow(time)) => thread::sleep(time),
        _ => {}
    }
    if with_body {
        stream.write_all(&body)?;
    }
    Ok(())
}

fn read_request(stream: &TcpStream, storage: bool) -> std::io::Result<Option<HubRequest>> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.take(1 << 16)).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let mut request = HubRequest {
        storage,
        method: word(),
        path: word(),
        range: None,
        authorization: None,
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value),
            "authorization" => request.authorization = Some(value),
            _ => {}
        }
    }
    Ok(Some(request))
}
