use super::{
    CommandResult, load_options, options, print, print_json, report,
    table::{MAX_COLUMN, padded},
};
use crate::{
    args::{Global, generate::Generate},
    ui::Ui,
};
use merv_host::{Reply, Stage, Stop, VidLm, plugin::Copies};
use serde::Serialize;
use std::collections::BTreeMap;

/// The width of the longest bar of `--show-mixer`, in columns.
const BAR_COLUMNS: usize = 40;

#[derive(Serialize)]
struct GenerateReport<'a> {
    text: &'a str,
    tokens: &'a [u32],
    stop: Stop,
    prompt_tokens: usize,
    visual_tokens: usize,
    #[serde(serialize_with = "report::as_map")]
    mixer_weights: &'a [(String, f32)],
    /// False if the answer is meaningless because the mixer is not trained yet.
    mixer_is_trained: bool,
    timings: &'a BTreeMap<Stage, f64>,
    /// Copies between main memory and devices, of tensors that cross between host and plugins.
    copies: Copies,
    /// The peak of the main memory in use; null if the system does not report it.
    peak_resident_bytes: Option<u64>,
}

pub fn run(global: &Global, args: &Generate, ui: Ui) -> CommandResult {
    let mut options = options::generate(&args.clip, &args.answer)?;
    let bar = ui.bar();
    let mut bar = bar.streaming(!args.json);
    let model = VidLm::load_with(global.registry(), &load_options(global), &mut bar)?;
    let registry = model.registry();
    let untrained = registry.untrained();
    for notice in registry.notice.iter().chain(&untrained) {
        bar.suspend(|| ui.warn(notice));
    }
    options.dump = args.dump.clone();
    let reply = model.generate_with(&args.clip.video, &args.prompt, &options, &mut bar)?;
    bar.finish();
    if args.json {
        print_json(&GenerateReport {
            text: &reply.text,
            tokens: &reply.tokens,
            stop: reply.stop,
            prompt_tokens: reply.prompt_tokens,
            visual_tokens: reply.visual_tokens,
            mixer_weights: &reply.mixer_weights,
            mixer_is_trained: untrained.is_none(),
            timings: &reply.timings,
            copies: Copies::so_far(),
            peak_resident_bytes: report::peak_resident_bytes(),
        })?;
    } else {
        // The text was streamed.
        print("")?;
    }
    if args.show_mixer {
        let fusion = model.registry().mixer.fusion_name();
        if !reply.mixer_weights.is_empty() {
            ui.show(&mixer_chart(&reply));
        } else {
            ui.show(&format!(
                "the fusion `{fusion}` does not weigh the encoders"
            ));
        }
    }
    if reply.stop == Stop::Context {
        ui.warn("the answer ends here because the model's context is full");
    }
    Ok(())
}

/// Draws the weight of each encoder as a bar.
fn mixer_chart(reply: &Reply) -> String {
    let names = reply
        .mixer_weights
        .iter()
        .map(|(id, _)| id.chars().count())
        .max()
        .unwrap_or(0)
        .min(MAX_COLUMN);
    let lines = reply.mixer_weights.iter().map(|(id, weight)| {
        let filled = (*weight * BAR_COLUMNS as f32).round() as usize;
        format!(
            "{}  {:>5.1} %  {}",
            padded(id, names),
            weight * 100.0,
            "█".repeat(filled)
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
