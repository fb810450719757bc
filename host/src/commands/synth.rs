use super::{BadArgument, CommandResult, load_options, print, print_json};
use crate::{
    args::{Global, synth::Synth},
    ui::Ui,
};
use merv_host::counted;
use merv_host::synth::{SynthError, SynthOptions, synth};
use std::error::Error;

pub fn run(global: &Global, args: &Synth, ui: Ui) -> CommandResult {
    let options = SynthOptions {
        clips: args.clips,
        seed: args.seed,
        splits: args.split.splits(),
        size: args.size,
        threads: load_options(global).threads(),
        force: args.force,
    };
    let bar = ui.bar();
    let out = args.out.display().to_string();
    let report = synth(&args.out, &options, &mut |done, total| {
        bar.show("drawing", &out, done as u64, total as u64);
    })
    .map_err(|error| -> Box<dyn Error> {
        match error {
            SynthError::Setting { .. } => Box::new(BadArgument::new(error)),
            error => error.into(),
        }
    })?;
    bar.finish();
    if args.json {
        return print_json(&report);
    }
    for (clips, questions, what) in [
        (report.train_clips, &report.train_questions, "for training"),
        (
            report.held_out_clips,
            &report.held_out_questions,
            "held out",
        ),
    ] {
        if clips > 0 {
            let kinds = questions
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"));
            let kinds: Vec<String> = kinds.collect();
            print(&format!(
                "{} {what}; questions: {}",
                counted(clips, "clip"),
                kinds.join(", ")
            ))?;
        }
    }
    for (file, items) in &report.items {
        print(&format!("{}: {items} items", args.out.join(file).display()))?;
    }
    Ok(())
}
