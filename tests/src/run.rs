//! Runs of the binary, as a user would make them.

use super::{artifacts, root};
use std::{
    ffi::OsStr,
    io::{Read, Seek, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than any run takes: what is not finished by then hangs.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Starts its arguments with at most 4 GB of memory: an input that asks for more must not take the
/// machine down with it.
const WITH_LITTLE_MEMORY: &str = "ulimit -v 4000000 2>/dev/null; exec \"$@\"";

/// What tells programs where the hub is, who asks, and through which proxy.
const HUB_VARIABLES: [&str; 14] = [
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_ENDPOINT",
    "XDG_CACHE_HOME",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A run of `merv-host`, from the workspace's root and without the caller's settings.
pub struct Run {
    command: Command,
    /// Folders that have to be there until it ends.
    folders: Vec<Arc<TempDir>>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; absent if a signal ended it, be it for taking too long.
    pub code: Option<i32>,
    /// All it said on stdout.
    pub stdout: String,
    /// All it said on stderr.
    pub stderr: String,
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// `merv-host` without arguments.
    pub fn new() -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", WITH_LITTLE_MEMORY, "sh"])
            .arg(&artifacts().host)
            .current_dir(root())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .env_remove("MERV_PREFIX")
            .env_remove("MERV_PLUGIN_PATH")
            .env_remove("MERV_REGISTRY_PATH");
        // Nothing of the user's is used, and no test leaves this machine.
        for variable in HUB_VARIABLES {
            command.env_remove(variable);
        }
        command.env("HF_HUB_OFFLINE", "1");
        Self {
            command,
            folders: Vec::new(),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Hands it a file as standard input.
    ///
    /// # Panics
    ///
    /// When the disk is full.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        let mut file = tempfile::tempfile().expect("a temporary file can be made");
        file.write_all(bytes).expect("it can be written");
        file.rewind().expect("it can be read");
        self.command.stdin(file);
        self
    }

    /// Keeps a folder until the run has ended.
    #[must_use]
    pub fn keeping(mut self, folder: &Arc<TempDir>) -> Self {
        self.folders.push(Arc::clone(folder));
        self
    }

    /// Commands of a shell that come first: limits, signals that are ignored.
    #[must_use]
    pub fn after(mut self, shell: &str) -> Self {
        let args: Vec<_> = self
            .command
            .get_args()
            .skip(1)
            .map(OsStr::to_owned)
            .collect();
        let script = format!("{shell}; {WITH_LITTLE_MEMORY}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).args(&args[1..]);
        command.current_dir(root()).stdin(Stdio::null());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
        self
    }

    /// Starts it and sends it a signal when `now` says so, given how long it has run: SIGKILL, or one that
    /// it can hear.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn ended_when(self, signal: &str, mut now: impl FnMut(Duration) -> bool) -> Finished {
        let mut signalled = false;
        self.watched(|child, elapsed| {
            if !signalled && now(elapsed) {
                signalled = true;
                let killed = Command::new("kill")
                    .args(["-s", signal, &child.id().to_string()])
                    .status();
                assert!(killed.is_ok(), "there is no `kill`");
            }
        })
    }

    /// Runs it. What takes too long is ended, and says so on stderr.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.watched(|_, _| ())
    }

    #[track_caller]
    fn watched(mut self, mut watch: impl FnMut(&Child, Duration)) -> Finished {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} does not start: {error}", self.command));
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let started = Instant::now();
        let mut late = "";
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            watch(&child, started.elapsed());
            if started.elapsed() > TIME_LIMIT && late.is_empty() {
                late = "(ended by the test: it took too long)";
                child.kill().expect("a child can be ended");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let text = |reader: thread::JoinHandle<Vec<u8>>| {
            let bytes = reader.join().expect("a reader does not panic");
            String::from_utf8(bytes).expect("merv-host writes UTF-8")
        };
        let (stdout, stderr) = (text(stdout), text(stderr) + late);
        Finished {
            code: status.code(),
            stdout,
            stderr,
        }
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until then is what there is to judge.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// `merv-host generate` of one token about a video.
pub fn about(video: impl AsRef<Path>) -> Run {
    Run::new()
        .args(["generate", "--prompt", "?", "--max-new-tokens", "1"])
        .arg("--video")
        .arg(video.as_ref())
}

impl Finished {
    /// Checks that the run succeeded, and returns it.
    ///
    /// # Panics
    ///
    /// When it failed.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Checks that the run failed as a user may expect it to: with exit code `code`, nothing on
    /// stdout, no panic, and a message that has each of `words`.
    ///
    /// # Panics
    ///
    /// When it did otherwise.
    #[track_caller]
    pub fn failed<S: AsRef<str>>(self, code: i32, words: &[S]) {
        if let Err(complaint) = self.judge(code, words) {
            panic!("{complaint}");
        }
    }

    /// As [`Self::failed`], with the complaint as a value.
    ///
    /// # Errors
    ///
    /// What the run did otherwise, with all that it said.
    pub fn judge<S: AsRef<str>>(&self, code: i32, words: &[S]) -> Result<(), String> {
        // What the standard library says of a panic; `guard` words it otherwise.
        if self.stderr.contains("panicked at") {
            return Err(format!("a panic shows: {self}"));
        }
        if self.code != Some(code) {
            return Err(format!("the exit code is not {code}: {self}"));
        }
        if !self.stdout.is_empty() {
            return Err(format!("stdout is not empty: {self}"));
        }
        match words
            .iter()
            .map(AsRef::as_ref)
            .find(|&word| !self.stderr.contains(word))
        {
            Some(word) => Err(format!("the message lacks `{word}`: {self}")),
            None => Ok(()),
        }
    }
}

/// Panics with all complaints together, so that one run of a table shows everything that is wrong.
///
/// # Panics
///
/// When there is a complaint.
#[track_caller]
pub fn none_of(complaints: impl IntoIterator<Item = (String, Result<(), String>)>) {
    let found: Vec<String> = complaints
        .into_iter()
        .filter_map(|(case, result)| result.err().map(|text| format!("## {case}\n{text}")))
        .collect();
    assert!(
        found.is_empty(),
        "{} cases are wrong\n{}",
        found.len(),
        found.join("\n")
    );
}

/// The outcome of each case of a table of (name, run, words).
#[track_caller]
pub fn all_fail<S: AsRef<str>>(
    code: i32,
    cases: impl IntoIterator<Item = (String, Finished, Vec<S>)>,
) {
    none_of(
        cases
            .into_iter()
            .map(|(name, run, words)| (name, run.judge(code, &words))),
    );
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit {:?}\n-- stdout\n{}\n-- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}
