//! The output of `info --json`.

use super::memory::Memory;
use merv_host::{
    Plan,
    model::plan::{PlannedEncoder, PlannedLlm, UntrainedMixer},
    plugin::Choice,
    registry::{EncoderEntry, LlmEntry},
};
use serde::Serialize;

type Made<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Serialize)]
pub struct InfoReport {
    pub id: String,
    pub description: String,
    pub license: Option<String>,
    /// The number of frames that are sampled from a video.
    pub num_frames: usize,
    pub encoders: Vec<EncoderReport>,
    pub mixer: MixerReport,
    pub llm: LlmReport,
    pub visual_tokens: usize,
    pub parameters: u64,
    /// For one clip, up to and including the visual tokens in the language model.
    pub macs: u64,
    pub memory: Memory,
    pub memory_bytes: u64,
    /// Files that are not on this machine. Their contents were not checked.
    pub unchecked: Vec<String>,
}

#[derive(Serialize)]
pub struct EncoderReport {
    pub id: String,
    pub plugin: String,
    /// The plugin's file, why it was taken, and the other plugins that were considered.
    pub plugin_choice: Choice,
    pub backend: String,
    pub device: String,
    pub weights: String,
    pub num_frames: u32,
    pub image_size: u32,
    pub width: u32,
    pub temporal: u32,
    pub spatial: u32,
    pub tokens: u64,
    /// The number of tokens after the projector.
    pub projected_tokens: usize,
    pub dtype: String,
    pub parameters: u64,
    pub macs: u64,
    pub memory: Memory,
}

#[derive(Serialize)]
pub struct MixerReport {
    pub projector: String,
    pub fusion: String,
    /// The plugin that brings the fusion or the whole mixer; null if the host's own is used.
    pub plugin: Option<String>,
    /// The plugin's file, why it was taken, and the other plugins that were considered.
    pub plugin_choice: Option<Choice>,
    pub weights: String,
    pub token_length: usize,
    /// The number of tokens after the fusion, which are the visual tokens.
    pub tokens: usize,
    pub parameters: u64,
    pub macs: u64,
    pub memory: Memory,
    /// Its initial tensors; null if it is trained.
    pub untrained: Option<UntrainedMixer>,
}

#[derive(Serialize)]
pub struct LlmReport {
    pub id: String,
    pub plugin: String,
    /// The plugin's file, why it was taken, and the other plugins that were considered.
    pub plugin_choice: Choice,
    pub backend: String,
    pub device: String,
    pub weights: String,
    pub width: u32,
    pub vocab_size: u32,
    pub context_length: u32,
    pub max_length: usize,
    /// Maximum number of text tokens of a prompt, in addition to the visual tokens.
    pub prompt_tokens: usize,
    pub prompt: String,
    pub dtype: String,
    pub parameters: u64,
    pub macs_per_token: u64,
    /// For the visual tokens.
    pub macs: u64,
    pub cache_bytes_per_token: u64,
    pub memory: Memory,
}

impl InfoReport {
    /// Creates the report of a plan.
    ///
    /// # Errors
    ///
    /// When a file of weights that is on this machine is damaged.
    pub fn new(plan: &Plan, unchecked: Vec<String>) -> Made<Self> {
        let registry = &plan.registry;
        let projected = plan.projected_tokens();
        let visual_tokens = registry.mixer.kind.visual_tokens(&projected);
        let entries = registry.encoders.iter().zip(&plan.encoders);
        let encoders = entries
            .zip(&projected)
            .map(|((entry, planned), tokens)| encoder(entry, planned, *tokens));
        let encoders = encoders.collect::<Made<Vec<_>>>()?;
        let mixer = mixer_report(plan, &projected, visual_tokens);
        let llm = llm_report(&registry.llm, &plan.llm, visual_tokens)?;
        let sum = |of_encoder: fn(&EncoderReport) -> u64, rest: [u64; 2]| {
            encoders
                .iter()
                .map(of_encoder)
                .chain(rest)
                .fold(0, u64::saturating_add)
        };
        let memories = encoders.iter().map(|encoder| encoder.memory);
        let memory = Memory::one_after_another(memories.chain([mixer.memory, llm.memory]));
        Ok(Self {
            id: registry.id.clone(),
            description: registry.description.clone(),
            license: registry.license.clone(),
            num_frames: registry.largest_num_frames(),
            visual_tokens,
            parameters: sum(|e| e.parameters, [mixer.parameters, llm.parameters]),
            macs: sum(|e| e.macs, [mixer.macs, llm.macs]),
            memory,
            memory_bytes: memory.total(),
            unchecked,
            encoders,
            mixer,
            llm,
        })
    }
}

fn encoder(
    entry: &EncoderEntry,
    planned: &PlannedEncoder,
    projected_tokens: usize,
) -> Made<EncoderReport> {
    let info = &planned.info;
    Ok(EncoderReport {
        id: entry.id.clone(),
        plugin: planned.library.manifest().name.clone(),
        plugin_choice: planned.choice.clone(),
        backend: planned.library.manifest().backend.clone(),
        device: info.device.to_string(),
        weights: entry.weights_name(),
        num_frames: info.num_frames,
        image_size: info.image_size(),
        width: info.width,
        temporal: info.temporal,
        spatial: info.spatial,
        tokens: u64::from(info.temporal) * u64::from(info.spatial),
        projected_tokens,
        dtype: info.dtype.to_string(),
        parameters: info.parameters,
        macs: info.macs_per_clip,
        memory: Memory::of_encoder(info, planned.weight_bytes()?),
    })
}

fn mixer_report(plan: &Plan, projected: &[usize], visual_tokens: usize) -> MixerReport {
    let entry = &plan.registry.mixer;
    let (width, cost) = (plan.llm.info.width, plan.mixer.cost);
    let fusion = plan.mixer.fusion.as_ref();
    MixerReport {
        projector: entry.kind.projector.to_string(),
        fusion: entry.fusion_name(),
        plugin: fusion.map(|fusion| fusion.plugin.library.manifest().name.clone()),
        plugin_choice: fusion.map(|fusion| fusion.choice.clone()),
        weights: entry.weights.to_string(),
        token_length: entry.kind.token_length,
        tokens: visual_tokens,
        parameters: cost.parameters,
        macs: cost.macs,
        memory: Memory::of_mixer(cost.parameters, projected, visual_tokens, width),
        untrained: plan.mixer.untrained.clone(),
    }
}

fn llm_report(entry: &LlmEntry, planned: &PlannedLlm, visual_tokens: usize) -> Made<LlmReport> {
    let info = &planned.info;
    let context = info.context_length as usize;
    let prompt_tokens = entry.prompt_tokens(context, visual_tokens);
    // The prompt and the answer together have at most `max_length` tokens.
    let positions = visual_tokens.saturating_add(entry.max_length).min(context) as u64;
    Ok(LlmReport {
        id: entry.id.clone(),
        plugin: planned.library.manifest().name.clone(),
        plugin_choice: planned.choice.clone(),
        backend: planned.library.manifest().backend.clone(),
        device: info.device.to_string(),
        weights: entry.weights.to_string(),
        width: info.width,
        vocab_size: info.vocab_size,
        context_length: info.context_length,
        max_length: entry.max_length,
        prompt_tokens,
        prompt: entry.prompt.to_string(),
        dtype: info.dtype.to_string(),
        parameters: info.parameters,
        macs_per_token: info.macs_per_token,
        macs: info.macs_per_token.saturating_mul(visual_tokens as u64),
        cache_bytes_per_token: info.cache_bytes_per_token,
        memory: Memory::of_llm(info, positions, planned.weight_bytes()?),
    })
}
