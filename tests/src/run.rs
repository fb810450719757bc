//! Runs of the binary, as a user would start them.

use super::{artifacts, root};
use std::{
    ffi::OsStr,
    io::{Read, Seek, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The time after which a run counts as hanging.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Limits a run to 4 GB of memory, so that an input that demands more cannot exhaust the machine. AddressSanitizer
/// reserves terabytes of addresses, so it runs without a limit.
const WITH_LITTLE_MEMORY: &str =
    "[ -n \"$ASAN_OPTIONS\" ] || ulimit -v 4000000 2>/dev/null; exec \"$@\"";

/// The environment variables that set the hub's address, cache, token and proxy.
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

/// A run of `merv-host` in the root of the workspace, without the caller's settings.
pub struct Run {
    command: Command,
    /// Folders that must exist until the run ends.
    folders: Vec<Arc<TempDir>>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` if a signal ended the run.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
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
        // Tests use neither the user's settings nor the network.
        for variable in HUB_VARIABLES {
            command.env_remove(variable);
        }
        command.env("HF_HUB_OFFLINE", "1");
        Self {
            command,
            folders: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Passes a file with these bytes as standard input.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        let mut file = tempfile::tempfile().expect("a temporary file can be created");
        file.write_all(bytes).expect("the file can be written");
        file.rewind().expect("the file can be rewound");
        self.command.stdin(file);
        self
    }

    /// Keeps a folder until the run ends.
    #[must_use]
    pub fn keeping(mut self, folder: &Arc<TempDir>) -> Self {
        self.folders.push(Arc::clone(folder));
        self
    }

    /// Runs shell commands first, such as limits or traps.
    #[must_use]
    pub fn after_shell(mut self, commands: &str) -> Self {
        let args: Vec<_> = self
            .command
            .get_args()
            .skip(1)
            .map(OsStr::to_owned)
            .collect();
        let script = format!("{commands}; {WITH_LITTLE_MEMORY}");
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

    /// Starts the run, and sends it a signal as soon as `now` returns true. `now` receives the elapsed time.
    ///
    /// # Panics
    ///
    /// If the run cannot be started.
    #[track_caller]
    pub fn signal_when(self, signal: &str, mut now: impl FnMut(Duration) -> bool) -> Finished {
        let mut signalled = false;
        self.watched(|child, elapsed| {
            if !signalled && now(elapsed) {
                signalled = true;
                let killed = Command::new("kill")
                    .args(["-s", signal, &child.id().to_string()])
                    .status();
                assert!(killed.is_ok(), "`kill` cannot be run");
            }
        })
    }

    /// Runs it to its end. A run that takes too long is killed, with a note on stderr.
    ///
    /// # Panics
    ///
    /// If the run cannot be started.
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
            .unwrap_or_else(|error| panic!("{:?} cannot be started: {error}", self.command));
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
                late = "(killed by the test: it took too long)";
                child.kill().expect("a child can be killed");
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
            signal: status.signal(),
            stdout,
            stderr,
        }
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // After an error, the test judges what was read before it.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// `merv-host generate` of one token about `video`.
pub fn ask_about(video: impl AsRef<Path>) -> Run {
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
    /// If it failed.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Checks that the run failed properly: with exit code `code`, nothing on stdout, no panic, and a message that
    /// contains each of `words`.
    ///
    /// # Panics
    ///
    /// If a check fails.
    #[track_caller]
    pub fn failed<S: AsRef<str>>(self, code: i32, words: &[S]) {
        if let Err(complaint) = self.check_failed(code, words) {
            panic!("{complaint}");
        }
    }

    /// Like [`Self::failed`], but returns the complaint.
    ///
    /// # Errors
    ///
    /// The check that failed, with the output of the run.
    pub fn check_failed<S: AsRef<str>>(&self, code: i32, words: &[S]) -> Result<(), String> {
        // The standard library's words. Panics that `guard` catches are reported in other words.
        if self.stderr.contains("panicked at") {
            return Err(format!("it panicked: {self}"));
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
            Some(word) => Err(format!("`{word}` is not in the message: {self}")),
            None => Ok(()),
        }
    }
}

/// Checks the result of each case of a table, and reports all failures together.
///
/// # Panics
///
/// If a case failed.
#[track_caller]
pub fn assert_cases(complaints: impl IntoIterator<Item = (String, Result<(), String>)>) {
    let found: Vec<String> = complaints
        .into_iter()
        .filter_map(|(case, result)| result.err().map(|text| format!("## {case}\n{text}")))
        .collect();
    assert!(
        found.is_empty(),
        "{} cases failed\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Checks with [`Finished::check_failed`] that each run of a table of (case, run, words) failed with exit code `code`.
///
/// # Panics
///
/// If a check fails.
#[track_caller]
pub fn assert_all_fail<S: AsRef<str>>(
    code: i32,
    cases: impl IntoIterator<Item = (String, Finished, Vec<S>)>,
) {
    assert_cases(
        cases
            .into_iter()
            .map(|(name, run, words)| (name, run.check_failed(code, &words))),
    );
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit {:?}, signal {:?}\n-- stdout\n{}\n-- stderr\n{}",
            self.code, self.signal, self.stdout, self.stderr
        )
    }
}
