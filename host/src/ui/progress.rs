//! Progress bars, notices and errors on standard error.

use crate::args::{Color, Global};
use anstyle::{AnsiColor, Style};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use merv_host::{
    Observer, Stage, causes, clipped,
    plugin::{Message, on_message},
};
use merv_plugin_api::LogLevel;
use std::{
    error::Error,
    io::{IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

/// Errors are bold red.
const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Notices are yellow.
const WARNING: Style = AnsiColor::Yellow.on_default();

/// The style of a bar that counts parts.
const PARTS: &str = "{spinner} {prefix:<10} {bar:20} {msg}";
/// The style of a bar for a download.
const BYTES: &str =
    "{spinner} {prefix:<10} {bar:20} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left: {msg}";

/// Writes messages to standard error, as many as the options request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ui {
    quiet: bool,
    verbose: u8,
}

impl Ui {
    /// Applies the global options, and shows messages of plugins from now on.
    pub fn new(global: &Global) -> Self {
        let choice = match global.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        let ui = Self {
            quiet: global.quiet,
            verbose: global.verbose,
        };
        on_message(move |message| ui.plugin_message(message));
        ui
    }

    fn plugin_message(self, message: Message) {
        let Message::Log {
            level,
            plugin,
            text,
            fields,
        } = message
        else {
            return;
        };
        let mut line = format!("plugin `{plugin}`: {text}");
        for (name, value) in fields {
            line.push_str(&format!(" {name}={value}"));
        }
        match level {
            LogLevel::ERROR => error_line(&line),
            LogLevel::WARN => self.warn(&line),
            LogLevel::INFO if self.verbose > 0 => self.info(&line),
            LogLevel::DEBUG if self.verbose > 1 => self.info(&line),
            _ => {}
        }
    }

    /// Writes a line of information, unless quiet.
    pub fn info(self, text: &str) {
        if !self.quiet {
            // A closed standard error does not stop the command.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Writes lines that an option requested, even when quiet.
    pub fn show(self, text: &str) {
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// Writes a prompt for input, without a line break.
    pub fn prompt(self, prompt: &str) {
        let mut stderr = anstream::stderr();
        let _ = write!(stderr, "{prompt}").and_then(|()| stderr.flush());
    }

    /// Writes a notice, unless quiet.
    pub fn warn(self, text: &str) {
        if !self.quiet {
            self.warn_always(text);
        }
    }

    /// Writes a notice about a problem that does not stop the command, even when quiet.
    pub fn warn_always(self, text: &str) {
        let text = clipped(text);
        let _ = writeln!(anstream::stderr(), "{WARNING}note:{WARNING:#} {text}");
    }

    /// Writes an error with its causes, outermost first.
    pub fn error(self, error: &(dyn Error + 'static)) {
        error_line(&error.to_string());
        let mut stderr = anstream::stderr();
        for cause in causes(error) {
            let _ = writeln!(stderr, "  because: {}", clipped(&cause.to_string()));
        }
    }

    /// Returns a progress bar that clears itself. It is hidden if standard error is not a terminal.
    pub fn bar(self) -> Bar {
        let bar = if self.quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(1)
        };
        bar.enable_steady_tick(Duration::from_millis(120));
        let bar = Bar {
            ui: self,
            bar,
            streaming: false,
            fetching: None,
        };
        bar.style(PARTS);
        bar
    }
}

/// Writes the line of an error, even when quiet.
pub fn error_line(text: &str) {
    let text = clipped(text);
    let _ = writeln!(anstream::stderr(), "{ERROR}error:{ERROR:#} {text}");
}

/// Shows the stages on standard error and, on request, streams the answer to standard output.
pub struct Bar {
    ui: Ui,
    pub(super) bar: ProgressBar,
    streaming: bool,
    /// The file that is being downloaded.
    fetching: Option<String>,
}

impl Bar {
    /// Sets whether the text of the answer is streamed to standard output.
    #[must_use]
    pub fn streaming(mut self, streaming: bool) -> Self {
        self.streaming = streaming;
        self
    }

    /// Hides the bar while `body` writes to standard error.
    pub fn suspend(&self, body: impl FnOnce()) {
        self.bar.suspend(body);
    }

    /// Returns a function that writes notices from any thread, and hides the bar meanwhile.
    pub fn notices(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        let (ui, bar) = (self.ui, self.bar.clone());
        Arc::new(move |text: &str| bar.suspend(|| ui.warn(text)))
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    /// Shows the bar of a download, or of the other stages again. If bars are hidden, writes a line that explains
    /// the wait.
    fn set_fetching(&mut self, file: Option<&str>, total: usize) {
        if self.fetching.as_deref() == file {
            return;
        }
        match file {
            Some(file) if self.bar.is_hidden() => {
                self.ui
                    .info(&format!("fetching {file} ({})", HumanBytes(total as u64)));
            }
            Some(_) => {
                self.style(BYTES);
                self.bar.reset();
            }
            None => self.style(PARTS),
        }
        self.fetching = file.map(str::to_owned);
    }

    /// Shows the progress of `what`.
    pub fn show(&self, prefix: &'static str, what: &str, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_prefix(prefix);
        self.bar.set_message(what.to_owned());
    }

    /// Clears the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for Bar {
    fn progress(&mut self, stage: Stage, what: &str, done: usize, total: usize) {
        let prefix = match stage {
            Stage::Fetch => "fetching",
            Stage::Load => "loading",
            Stage::Decode => "decoding",
            Stage::Transform => "resizing",
            Stage::Encode => "encoding",
            Stage::Mix => "mixing",
            Stage::Prefill => "reading",
            Stage::Generate => "answering",
        };
        self.set_fetching((stage == Stage::Fetch).then_some(what), total);
        self.show(prefix, what, done as u64, total as u64);
    }

    fn text(&mut self, text: &str) {
        if self.streaming {
            // The bar and the answer would overwrite each other on a terminal.
            self.bar.finish_and_clear();
            let mut stdout = anstream::stdout();
            // A closed pipe is noticed when the last line is written.
            let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
        }
    }
}
