use super::{
    BadArgument, CommandResult, load_options, print, print_json, signals,
    table::{human, table},
    unchecked, untrained,
};
use crate::{
    args::{Global, train::Train},
    ui::{Ui, training::TrainingBar},
};
use merv_host::counted;
use merv_host::train::{self, Outline, Settings, Summary, TrainOptions, data::BrokenExample};
use std::path::{Path, PathBuf};

pub fn run(global: &Global, args: &Train, ui: Ui) -> CommandResult {
    // clap requires `--out` wherever it is used.
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("."));
    for set in &args.set {
        Settings::check_argument(set).map_err(BadArgument::new)?;
    }
    let mut settings = match (&args.config, args.stage) {
        (config, stage) if args.resume => {
            train::settings_of_run(&out, config.as_deref(), stage, &args.set)?
        }
        (Some(config), Some(stage)) => Settings::load(config, stage, &args.set)?,
        _ => return Err("--config and --stage are required".into()),
    };
    // `--registry` overrides the registry of the settings, and `--from` overrides both.
    if let Some(registry) = args.from.as_ref().or(global.registry.as_ref()) {
        train::start_from(&mut settings, registry)?;
    }
    settings.precision = global.precision.or(settings.precision);
    if args.dry_run {
        let out = args.out.as_deref();
        let outline = Outline::new(&settings, &load_options(global), out, args.resume)?;
        return if args.json {
            print_json(&outline)
        } else {
            print(&text(&outline))
        };
    }
    let options = TrainOptions {
        load: load_options(global),
        out,
        resume: args.resume,
    };
    let stop = signals::stop_flag()?;
    let mut bar = TrainingBar::new(ui);
    let summary = train::train(&settings, &options, &stop, &mut bar)?;
    drop(bar);
    if args.json {
        print_json(&summary)?;
    }
    report_summary(&summary, &options.out, ui);
    Ok(())
}

fn report_summary(summary: &Summary, out: &Path, ui: Ui) {
    let Summary {
        steps, total_steps, ..
    } = summary;
    let out = out.display();
    if summary.broken_examples > 0 {
        ui.warn_always(&format!(
            "broken examples that were skipped: {} of {}",
            summary.broken_examples, summary.examples
        ));
    }
    if summary.stopped {
        ui.info(&format!(
            "stopped after step {steps} of {total_steps}, with a checkpoint; resume with --resume --out {out}"
        ));
        return;
    }
    let loss = summary
        .loss
        .map_or(String::new(), |loss| format!(", loss {loss:.4}"));
    let held_out = summary.validation_loss;
    let held_out = held_out.map_or(String::new(), |loss| format!(", {loss:.4} held out"));
    ui.info(&format!(
        "{}{loss}{held_out}; use the model with --registry {out}/registry.toml",
        counted(usize::try_from(*steps).unwrap_or(usize::MAX), "step")
    ));
}

fn text(outline: &Outline) -> String {
    let data = &outline.data;
    let rows: Vec<Vec<String>> = outline
        .parts
        .iter()
        .map(|part| {
            let state = if part.trained { "trained" } else { "frozen" };
            vec![part.id.clone(), state.to_owned(), human(part.parameters)]
        })
        .collect();
    let memory = &outline.memory;
    let bytes = |count: u64| format!("{}B", human(count));
    let mut lines = vec![
        format!("{} of {}", outline.stage, outline.model),
        String::new(),
        table(&["PART", "", "PARAMETERS"], &rows),
        String::new(),
        format!(
            "data      {}: {} ({}, {}, {}), {} broken, {} with a missing file",
            data.path.display(),
            counted(data.examples, "example"),
            counted(data.videos, "video"),
            counted(data.images, "image"),
            counted(data.texts, "text"),
            data.broken,
            data.missing
        ),
    ];
    lines.extend(data.broken_examples.iter().map(|broken| {
        let BrokenExample { name, why } = broken;
        format!("          {name}: {why}")
    }));
    if let Some(held_out) = &outline.validation {
        lines.push(format!(
            "held out  {}: {}",
            held_out.path.display(),
            counted(held_out.examples, "example")
        ));
    }
    lines.extend([
        format!(
            "steps     {}: {} per epoch, {}, {} of warm-up; {} per step, {} per device batch",
            outline.total_steps,
            outline.steps_per_epoch,
            counted(outline.epochs, "epoch"),
            outline.warmup_steps,
            counted(outline.global_batch, "example"),
            outline.device_batch
        ),
        format!(
            "tokens    {} visual, at most {} of text",
            outline.visual_tokens, outline.max_length
        ),
        format!("rate      at most {:e}", outline.learning_rate),
        format!("saved     {}", counted(outline.checkpoints, "checkpoint")),
        format!(
            "memory    about {}: weights {}, gradients and optimiser {}, activations {}, examples \
             read ahead {}",
            bytes(outline.memory_bytes),
            bytes(memory.weights),
            bytes(memory.training_state),
            bytes(memory.activations),
            bytes(memory.examples)
        ),
    ]);
    lines.extend(
        outline
            .notices
            .iter()
            .map(|notice| format!("note      {notice}")),
    );
    lines.extend(unchecked::text(&outline.unchecked));
    lines.extend(outline.untrained_mixer.iter().map(untrained::text));
    lines.join("\n")
}
