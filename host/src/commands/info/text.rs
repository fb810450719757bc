//! The output of `info` without `--json`.

use super::report::{EncoderReport, InfoReport};
use crate::commands::{
    table::{human, table},
    unchecked, untrained,
};
use merv_host::escaped;

const HEADER: [&str; 9] = [
    "PART",
    "PLUGIN",
    "CLIP",
    "TOKENS",
    "WIDTH",
    "PARAMETERS",
    "MACS",
    "MEMORY",
    "WEIGHTS",
];

/// Returns a table of the parts, followed by the number of tokens at each stage and the totals.
pub fn text(report: &InfoReport) -> String {
    let mut lines = vec![
        escaped(&format!("{}: {}", report.id, report.description)),
        String::new(),
        table(&HEADER, &rows(report)),
        String::new(),
        format!("tokens      {}", tokens(report)),
        format!("parameters  {}", human(report.parameters)),
        format!(
            "MACs        {} for a clip, up to the visual tokens in the language model",
            human(report.macs)
        ),
        format!("memory      {}", memory(report)),
    ];
    lines.extend(plugins(report));
    lines.extend(unchecked::text(&report.unchecked));
    lines.extend(report.mixer.untrained.iter().map(untrained::text));
    if let Some(license) = &report.license {
        lines.push(format!("licence     {license}"));
    }
    lines.join("\n")
}

fn rows(report: &InfoReport) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = report
        .encoders
        .iter()
        .map(|encoder| {
            vec![
                encoder.id.clone(),
                encoder.plugin.clone(),
                format!("{} × {}²", encoder.num_frames, encoder.image_size),
                format!("{} → {}", shape(encoder), encoder.projected_tokens),
                encoder.width.to_string(),
                human(encoder.parameters),
                human(encoder.macs),
                bytes(encoder.memory.total()),
                encoder.weights.clone(),
            ]
        })
        .collect();
    let (mixer, llm) = (&report.mixer, &report.llm);
    rows.push(vec![
        format!("{}, {}", mixer.projector, mixer.fusion),
        "(mixer)".to_owned(),
        String::new(),
        format!("→ {}", mixer.tokens),
        llm.width.to_string(),
        human(mixer.parameters),
        human(mixer.macs),
        bytes(mixer.memory.total()),
        mixer.weights.clone(),
    ]);
    rows.push(vec![
        llm.id.clone(),
        llm.plugin.clone(),
        String::new(),
        format!("≤ {}", llm.context_length),
        llm.width.to_string(),
        human(llm.parameters),
        format!("{}/token", human(llm.macs_per_token)),
        bytes(llm.memory.total()),
        llm.weights.clone(),
    ]);
    rows
}

/// Returns why each plugin was taken.
fn plugins(report: &InfoReport) -> Vec<String> {
    let encoders = report.encoders.iter();
    let encoders = encoders.map(|part| (&part.plugin, &part.device, &part.plugin_choice));
    let (llm, mixer) = (&report.llm, &report.mixer);
    // Plugins compute mixers in main memory.
    let cpu = "cpu".to_owned();
    let mixer = mixer.plugin.as_ref().zip(mixer.plugin_choice.as_ref());
    let mixer = mixer.map(|(plugin, choice)| (plugin, &cpu, choice));
    let parts = encoders.chain(mixer);
    let parts = parts.chain([(&llm.plugin, &llm.device, &llm.plugin_choice)]);
    let mut lines: Vec<String> = Vec::new();
    for (plugin, device, choice) in parts {
        let label = if lines.is_empty() { "plugins" } else { "" };
        let line = format!("`{plugin}` on {device}: {}", choice.reason);
        // Several parts may have the same plugin.
        if !lines.iter().any(|known| known.ends_with(&line)) {
            lines.push(format!("{label:<12}{line}"));
        }
    }
    lines
}

fn shape(encoder: &EncoderReport) -> String {
    format!("{} × {}", encoder.temporal, encoder.spatial)
}

/// Returns the number of tokens at each stage, from the frames to the prompt.
fn tokens(report: &InfoReport) -> String {
    let all = |each: fn(&EncoderReport) -> String| {
        let each: Vec<_> = report.encoders.iter().map(each).collect();
        each.join(" + ")
    };
    let projected = all(|encoder| encoder.projected_tokens.to_string());
    format!(
        "{} frames → {} from the encoders → {projected} projected → {} visual; at most {} of text",
        report.num_frames,
        all(shape),
        report.visual_tokens,
        report.llm.prompt_tokens,
    )
}

fn memory(report: &InfoReport) -> String {
    let memory = &report.memory;
    format!(
        "about {}: weights {}, clips and features {}, activations {}, cache {}",
        bytes(report.memory_bytes),
        bytes(memory.weights),
        bytes(memory.features),
        bytes(memory.activations),
        bytes(memory.cache),
    )
}

fn bytes(count: u64) -> String {
    format!("{}B", human(count))
}
