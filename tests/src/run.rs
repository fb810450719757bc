//! Runs of the binary, as a user would make them.

use super::{artifacts, root};
use std::{
    ffi::OsStr,
    io::Read,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longer than any run takes: what is not finished by then hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A run of `merv-host`, from the workspace's root and without the caller's settings.
pub struct Run(Command);

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; absent if a signal ended it.
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
        let mut command = Command::new(&artifacts().host);
        command
            .current_dir(root())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .env_remove("MERV_PLUGIN_PATH")
            .env_remove("MERV_REGISTRY_PATH");
        Self(command)
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it.
    ///
    /// # Panics
    ///
    /// When it cannot be started or does not end within the time limit.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let mut child = self
            .0
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} does not start: {error}", self.0));
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let started = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if started.elapsed() > TIME_LIMIT {
                // The test fails either way.
                let _ = child.kill();
                panic!("{:?} was not finished after {TIME_LIMIT:?}", self.0);
            }
            thread::sleep(Duration::from_millis(2));
        };
        let text = |reader: thread::JoinHandle<Vec<u8>>| {
            let bytes = reader.join().expect("a reader does not panic");
            String::from_utf8(bytes).expect("merv-host writes UTF-8")
        };
        Finished { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
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
        assert_eq!(self.code, Some(code), "{self}");
        assert_eq!(self.stdout, "", "{self}");
        assert!(!self.stderr.contains("thread '"), "a panic shows: {self}");
        for word in words.iter().map(AsRef::as_ref) {
            assert!(self.stderr.contains(word), "the message lacks `{word}`: {self}");
        }
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n-- stdout\n{}\n-- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}
