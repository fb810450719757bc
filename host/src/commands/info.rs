use super::{
    Outcome, print, print_json,
    table::{human, table},
};
use crate::args::{Global, info::Info};
use merv_host::{Plan, mixer, registry::Registry};
use serde::Serialize;

/// Bytes of a parameter, while everything computes in `f32`.
const BYTES: u64 = 4;

#[derive(Serialize)]
struct Report {
    id: String,
    description: String,
    license: Option<String>,
    encoders: Vec<EncoderReport>,
    mixer: MixerReport,
    llm: LlmReport,
    visual_tokens: usize,
    parameters: u64,
    /// For one clip, up to and with the visual tokens in the language model.
    macs: u64,
    /// Weights, which stay in their files and are paged in, and the cache of one full text.
    memory_bytes: u64,
}

#[derive(Serialize)]
struct EncoderReport {
    id: String,
    plugin: String,
    weights: String,
    num_frames: u32,
    image_size: u32,
    width: u32,
    temporal: u32,
    spatial: u32,
    tokens: u64,
    dtype: &'static str,
    parameters: u64,
    macs: u64,
}

#[derive(Serialize)]
struct MixerReport {
    projector: String,
    fusion: String,
    weights: String,
    token_length: usize,
    parameters: u64,
    macs: u64,
}

#[derive(Serialize)]
struct LlmReport {
    id: String,
    plugin: String,
    weights: String,
    width: u32,
    vocab_size: u32,
    context_length: u32,
    max_length: usize,
    prompt: String,
    dtype: &'static str,
    parameters: u64,
    macs_per_token: u64,
    cache_bytes_per_token: u64,
}

pub fn run(global: &Global, args: &Info) -> Outcome {
    let plan = Plan::new(
        Registry::load(&global.registry)?,
        &super::load_options(global),
    )?;
    let report = report(&plan);
    if args.json {
        print_json(&report)
    } else {
        print(&text(&report))
    }
}

fn report(plan: &Plan) -> Report {
    let Plan {
        registry,
        encoders,
        llm,
        ..
    } = plan;
    let visual_tokens = registry.mixer.kind.visual_feature_length;
    let cost = mixer::cost(
        registry.mixer.kind,
        &plan.shapes(),
        llm.info.width as usize,
        3072,
    );
    let encoders: Vec<EncoderReport> = registry
        .encoders
        .iter()
        .zip(encoders)
        .map(|(entry, planned)| EncoderReport {
            id: entry.id.clone(),
            plugin: planned.library.manifest().name.clone(),
            weights: entry.weights.to_string(),
            num_frames: planned.info.num_frames,
            image_size: planned.info.image_size,
            width: planned.info.width,
            temporal: planned.info.temporal,
            spatial: planned.info.spatial,
            tokens: u64::from(planned.info.temporal) * u64::from(planned.info.spatial),
            dtype: planned.info.dtype.name(),
            parameters: planned.info.parameters,
            macs: planned.info.macs_per_clip,
        })
        .collect();
    let positions = (visual_tokens + registry.llm.max_length) as u64;
    let positions = positions.min(u64::from(llm.info.context_length));
    let parameters = encoders
        .iter()
        .map(|encoder| encoder.parameters)
        .sum::<u64>()
        + cost.parameters
        + llm.info.parameters;
    Report {
        id: registry.id.clone(),
        description: registry.description.clone(),
        license: registry.license.clone(),
        visual_tokens,
        parameters,
        macs: encoders.iter().map(|encoder| encoder.macs).sum::<u64>()
            + cost.macs
            + visual_tokens as u64 * llm.info.macs_per_token,
        memory_bytes: parameters * BYTES + positions * llm.info.cache_bytes_per_token,
        encoders,
        mixer: MixerReport {
            projector: registry.mixer.kind.projector.to_string(),
            fusion: registry.mixer.kind.fusion.to_string(),
            weights: registry.mixer.weights.to_string(),
            token_length: registry.mixer.kind.token_length,
            parameters: cost.parameters,
            macs: cost.macs,
        },
        llm: LlmReport {
            id: registry.llm.id.clone(),
            plugin: llm.library.manifest().name.clone(),
            weights: registry.llm.weights.to_string(),
            width: llm.info.width,
            vocab_size: llm.info.vocab_size,
            context_length: llm.info.context_length,
            max_length: registry.llm.max_length,
            prompt: registry.llm.prompt.to_string(),
            dtype: llm.info.dtype.name(),
            parameters: llm.info.parameters,
            macs_per_token: llm.info.macs_per_token,
            cache_bytes_per_token: llm.info.cache_bytes_per_token,
        },
    }
}

fn text(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = report
        .encoders
        .iter()
        .map(|encoder| {
            vec![
                encoder.id.clone(),
                encoder.plugin.clone(),
                format!("{} × {}²", encoder.num_frames, encoder.image_size),
                format!("{} × {}", encoder.temporal, encoder.spatial),
                encoder.width.to_string(),
                human(encoder.parameters),
                human(encoder.macs),
                encoder.weights.clone(),
            ]
        })
        .collect();
    let mixer = &report.mixer;
    rows.push(vec![
        format!("{}, {}", mixer.projector, mixer.fusion),
        "(mixer)".to_owned(),
        String::new(),
        format!(
            "{} × {}",
            report.visual_tokens / mixer.token_length,
            mixer.token_length
        ),
        report.llm.width.to_string(),
        human(mixer.parameters),
        human(mixer.macs),
        mixer.weights.clone(),
    ]);
    let llm = &report.llm;
    rows.push(vec![
        llm.id.clone(),
        llm.plugin.clone(),
        String::new(),
        format!("≤ {}", llm.context_length),
        llm.width.to_string(),
        human(llm.parameters),
        format!("{}/token", human(llm.macs_per_token)),
        llm.weights.clone(),
    ]);
    let header = [
        "PART",
        "PLUGIN",
        "CLIP",
        "TOKENS",
        "WIDTH",
        "PARAMETERS",
        "MACS",
        "WEIGHTS",
    ];
    let mut text = format!("{}: {}\n\n", report.id, report.description);
    text.push_str(&table(&header, &rows));
    text.push_str(&format!(
        "\n\n{} visual tokens, {} parameters, {} MACs a clip, about {}B of memory",
        report.visual_tokens,
        human(report.parameters),
        human(report.macs),
        human(report.memory_bytes),
    ));
    if let Some(license) = &report.license {
        text.push_str(&format!("\nlicence of the weights: {license}"));
    }
    text
}
