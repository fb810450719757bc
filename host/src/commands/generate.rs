use super::{Outcome, load_options, print, print_json};
use crate::{
    args::{
        Global,
        generate::{Generate, Limits},
    },
    ui::Ui,
};
use merv_host::{
    GenerateOptions, Reply, Sampling, Stage, Stop, VidLm, VideoOptions, generate, video,
};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Columns of the longest bar of `--show-mixer`.
const BAR_COLUMNS: usize = 40;

#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    tokens: &'a [u32],
    stop: Stop,
    prompt_tokens: usize,
    visual_tokens: usize,
    #[serde(serialize_with = "as_map")]
    mixer_weights: &'a [(String, f32)],
    timings: &'a BTreeMap<Stage, f64>,
    /// The most main memory that was in use at once; null where the system does not tell.
    peak_resident_bytes: Option<u64>,
}

pub fn run(global: &Global, args: &Generate, ui: Ui) -> Outcome {
    let bar = ui.bar();
    let mut bar = bar.streaming(!args.json);
    let model = VidLm::load_with(&global.registry, &load_options(global), &mut bar)?;
    if let Some(notice) = &model.registry().notice {
        bar.suspend(|| ui.warn(notice));
    }
    let options = options(args);
    let reply = model.generate_with(&args.video, &args.prompt, &options, &mut bar)?;
    bar.finish();
    if args.json {
        print_json(&Report {
            text: &reply.text,
            tokens: &reply.tokens,
            stop: reply.stop,
            prompt_tokens: reply.prompt_tokens,
            visual_tokens: reply.visual_tokens,
            mixer_weights: &reply.mixer_weights,
            timings: &reply.timings,
            peak_resident_bytes: peak_resident_bytes(),
        })?;
    } else {
        // The text was streamed.
        print("")?;
    }
    if args.show_mixer {
        let fusion = model.registry().mixer.kind.fusion;
        if fusion.weighs() {
            ui.say(&mixer_chart(&reply));
        } else {
            ui.say(&format!(
                "the fusion `{fusion}` does not weigh the encoders"
            ));
        }
    }
    if reply.stop == Stop::Context {
        ui.warn("the answer ends here because the model's context is full");
    }
    Ok(())
}

/// An object whose keys stay in order: the registry's.
fn as_map<S: Serializer>(pairs: &[(String, f32)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(id, weight)| (id, weight)))
}

/// As Linux tells it.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn options(args: &Generate) -> GenerateOptions {
    GenerateOptions {
        video: VideoOptions {
            start: args.start,
            end: args.end,
            limits: limits(&args.limits),
            ..VideoOptions::default()
        },
        sampling: Sampling {
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: args.top_k,
            seed: args.seed,
        },
        limits: generate::Limits {
            max_new_tokens: args.max_new_tokens,
            min_length: args.min_length,
            min_new_tokens: args.min_new_tokens,
        },
        dump: args.dump.clone(),
    }
}

/// The limits on files that the options name.
pub fn limits(args: &Limits) -> video::Limits {
    let default = video::Limits::default();
    video::Limits {
        max_pixels: args.max_pixels.unwrap_or(default.max_pixels),
        max_frames: args.max_frames.unwrap_or(default.max_frames),
        max_clip_bytes: args.max_clip_bytes.unwrap_or(default.max_clip_bytes),
        max_image_bytes: args.max_image_bytes.unwrap_or(default.max_image_bytes),
        ..default
    }
}

/// How much each encoder counted, as bars.
fn mixer_chart(reply: &Reply) -> String {
    let names = reply
        .mixer_weights
        .iter()
        .map(|(id, _)| id.chars().count())
        .max()
        .unwrap_or(0);
    let lines = reply.mixer_weights.iter().map(|(id, weight)| {
        let filled = (*weight * BAR_COLUMNS as f32).round() as usize;
        format!(
            "{id:<names$}  {:>5.1} %  {}",
            weight * 100.0,
            "█".repeat(filled)
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
