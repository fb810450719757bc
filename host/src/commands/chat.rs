use super::{CommandResult, load_options, options, print, print_json, report};
use crate::{
    args::{Global, chat::Chat},
    ui::{Bar, Ui},
};
use merv_checkpoint::text;
use merv_host::{
    GenerateOptions, Reply, Sampling, Stage, Stop, VidLm, generate::Sampler,
    video::is_standard_input,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, IsTerminal, Read},
};

/// Maximum number of bytes of a message. It is more than fits into any context.
const MAX_MESSAGE: u64 = 1 << 20;

/// The usual cause is UTF-16 from some shells.
const NOT_UTF8: &str =
    "a message on standard input is not UTF-8\n  do: convert it, for example with iconv";

/// The text that is shown first at a terminal.
const WELCOME: &str =
    "Ask about the video, one message per line. /reset forgets the conversation, /quit ends it.";

#[derive(Serialize)]
struct ChatReport {
    turns: Vec<Turn>,
    visual_tokens: usize,
    #[serde(serialize_with = "report::as_map")]
    mixer_weights: Vec<(String, f32)>,
    /// False if the replies are meaningless because the mixer is not trained yet.
    mixer_is_trained: bool,
    /// The time of the stages that run once.
    timings: BTreeMap<Stage, f64>,
    peak_resident_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Turn {
    prompt: String,
    text: String,
    tokens: Vec<u32>,
    stop: Stop,
    /// The number of tokens of the whole conversation up to this reply.
    prompt_tokens: usize,
    timings: BTreeMap<Stage, f64>,
}

pub fn run(global: &Global, args: &Chat, ui: Ui) -> CommandResult {
    let bar = ui.bar();
    let mut bar = bar.streaming(!args.json);
    let options = options::generate(&args.clip, &args.answer)?;
    // Check what is cheap to check before the video is decoded.
    if is_standard_input(&args.clip.video) {
        let why = "the messages are read from standard input, so the video cannot be; expected a file or a \
                   named pipe";
        return Err(why.into());
    }
    Sampler::new(options.sampling)?;
    let model = VidLm::load_with(global.registry(), &load_options(global), &mut bar)?;
    let registry = model.registry();
    let untrained = registry.untrained();
    for notice in registry.notice.iter().chain(&untrained) {
        bar.suspend(|| ui.warn(notice));
    }
    let visual = model.see(&args.clip.video, &options.video, &mut bar)?;
    bar.finish();
    let mut turns = Vec::new();
    let ended = converse(
        &mut model.chat(&visual),
        &options,
        args.json,
        &mut turns,
        &mut bar,
        ui,
    );
    // After an error, the replies before it are still printed.
    if args.json && (ended.is_ok() || !turns.is_empty()) {
        let mut timings = visual.timings.clone();
        timings.insert(Stage::Load, model.load_seconds());
        print_json(&ChatReport {
            turns,
            visual_tokens: model.visual_tokens(),
            mixer_weights: visual.mixer_weights()?,
            mixer_is_trained: untrained.is_none(),
            timings,
            peak_resident_bytes: report::peak_resident_bytes(),
        })?;
    }
    ended
}

/// Replies to messages until the end of the input, and adds each reply to `turns`.
fn converse(
    chat: &mut merv_host::Chat<'_>,
    options: &GenerateOptions,
    json: bool,
    turns: &mut Vec<Turn>,
    bar: &mut Bar,
    ui: Ui,
) -> CommandResult {
    let mut input = io::stdin().lock();
    let at_terminal = io::stdin().is_terminal();
    if at_terminal {
        ui.info(WELCOME);
    }
    while let Some(message) = next_message(&mut input, at_terminal, ui)? {
        match message.as_str() {
            "" => continue,
            "/quit" => break,
            "/reset" => {
                chat.reset();
                continue;
            }
            _ => {}
        }
        let options = GenerateOptions {
            sampling: Sampling {
                // Otherwise sampling would give the same reply to a repeated question.
                seed: options.sampling.seed.wrapping_add(turns.len() as u64),
                ..options.sampling
            },
            ..options.clone()
        };
        let reply = match chat.say(&message, &options, bar) {
            Ok(reply) => reply,
            // A person can continue, but a script must notice that its message has no reply.
            Err(error) if at_terminal => {
                ui.error(&error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        bar.finish();
        if !json {
            // The text was streamed.
            print("")?;
        }
        if reply.stop == Stop::Context {
            ui.warn(
                "the reply ends here because the model's context is full; /reset starts a new conversation",
            );
        }
        turns.push(turn(message, reply));
    }
    Ok(())
}

fn turn(prompt: String, reply: Reply) -> Turn {
    Turn {
        prompt,
        text: reply.text,
        tokens: reply.tokens,
        stop: reply.stop,
        prompt_tokens: reply.prompt_tokens,
        timings: reply.timings,
    }
}

/// Reads the next line without surrounding blanks; returns `None` at the end of the input.
fn next_message(input: &mut impl BufRead, at_terminal: bool, ui: Ui) -> io::Result<Option<String>> {
    if at_terminal {
        ui.prompt("> ");
    }
    let mut line = String::new();
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    match input.take(MAX_MESSAGE).read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(read) if read as u64 == MAX_MESSAGE && !line.ends_with('\n') => Err(invalid(format!(
            "a message on standard input is too long\n  expected: at most {MAX_MESSAGE} bytes per line"
        ))),
        Ok(_) if text::is_utf16(line.as_bytes()) => Err(invalid(NOT_UTF8.to_owned())),
        // Some shells add a byte-order mark to a pipe.
        Ok(_) => Ok(Some(line.trim_start_matches('\u{feff}').trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(invalid(NOT_UTF8.to_owned()))
        }
        Err(error) => Err(error),
    }
}
