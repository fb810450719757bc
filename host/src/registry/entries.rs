//! The resolved registry, which the rest of the program uses.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::placement::{DeviceChoice, DtypeChoice};
use super::sources::WeightSource;
use crate::disk::digest::Sha256Digest;
use crate::messages::quoted;
use crate::prompt::{PromptFormat, VisualMarks};
use crate::transform::ResizeStrategy;
use merv_architectures::mixer::MixerKind;

/// One complete video-language model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// The path of the registry file, as it was given.
    pub path: PathBuf,
    /// The model's name.
    pub id: String,
    /// A description for people. It may be empty.
    pub description: String,
    /// The license of the weights, if it is given.
    pub license: Option<String>,
    /// A notice that is printed whenever the model is used, if there is one.
    pub notice: Option<String>,
    /// The encoders, in the order of the mixer's projectors. There is at least one, and their ids differ.
    pub encoders: Vec<EncoderEntry>,
    /// The language model.
    pub llm: LlmEntry,
    /// How frames become clips.
    pub transform: TransformEntry,
    /// How features become visual tokens.
    pub mixer: MixerEntry,
}

/// One encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderEntry {
    /// The model id, which its plugin must provide.
    pub id: String,
    /// The plugin.
    pub plugin: PluginRef,
    /// The number of frames in a clip, at least 1. It divides [`Registry::largest_num_frames`].
    pub num_frames: usize,
    /// The weights. `None` for a model without weights.
    pub weights: Option<WeightSource>,
    /// The file with the model's sizes: the one in the registry, or `config.json` in the folder of local
    /// weights. If it is `None`, the plugin uses the published sizes of the model id.
    pub config: Option<WeightSource>,
    /// The side length of the square image. The default is that of the plugin.
    pub image_size: Option<usize>,
    /// The device.
    pub device: DeviceChoice,
    /// The number format of the computation.
    pub dtype: DtypeChoice,
    /// Keys that only the plugin knows.
    pub options: BTreeMap<String, String>,
    /// The lines in the registry, for messages.
    pub(crate) lines: TableLines,
}

/// The line of a table, and the lines of those keys that a plugin can refuse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableLines {
    /// The name in messages, such as `[[encoders]] #2`.
    pub(crate) name: String,
    /// The first line of the table.
    pub(crate) table: usize,
    /// The keys and their lines.
    pub(crate) keys: Vec<(&'static str, usize)>,
    /// The keys of `options` and their lines.
    pub(crate) options: Vec<(String, usize)>,
}

impl TableLines {
    /// Returns the line of a key, or of its table if the key is not written.
    pub(crate) fn of(&self, key: &str) -> usize {
        let found = self.keys.iter().find(|(name, _)| *name == key);
        found.map_or(self.table, |(_, line)| *line)
    }

    /// Returns the line of a key of `options`, or of the table if the key is not written.
    pub(crate) fn of_option(&self, key: &str) -> usize {
        let found = self.options.iter().find(|(name, _)| name == key);
        found.map_or(self.table, |(_, line)| *line)
    }
}

/// The language model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlmEntry {
    /// The model's name. If the plugin lists language models, it must provide this one.
    pub id: String,
    /// The plugin.
    pub plugin: PluginRef,
    /// The weights.
    pub weights: WeightSource,
    /// The tokenizer. The default is the weights file if it is a GGUF file, and otherwise `tokenizer.json` in
    /// the same folder.
    pub tokenizer: WeightSource,
    /// The file with the model's sizes, found in the same way as [`EncoderEntry::config`].
    pub config: Option<WeightSource>,
    /// The chat format.
    pub prompt: PromptEntry,
    /// The system prompt, for formats that support one. An empty text means no system prompt.
    pub system_prompt: Option<String>,
    /// The treatment of `<image>` and `<video>` in messages.
    pub marks: VisualMarks,
    /// Whether special tokens in messages and replies, such as `</s>`, are treated as plain characters.
    pub split_special_tokens: bool,
    /// The maximum number of text tokens, at least 1. The visual tokens are not counted.
    pub max_length: usize,
    /// The device.
    pub device: DeviceChoice,
    /// The number format of the computation.
    pub dtype: DtypeChoice,
    /// Keys that only the plugin knows.
    pub options: BTreeMap<String, String>,
    /// The lines in the registry, for messages.
    pub(crate) lines: TableLines,
}

/// The chat format of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptEntry {
    /// A built-in format.
    Format(PromptFormat),
    /// The Jinja template in this file: a GGUF file, a `tokenizer_config.json`, or a template file.
    Template(WeightSource),
}

impl PromptEntry {
    /// Returns whether the format supports a system prompt. For a template, it returns `true`; a template
    /// without support fails when it is rendered.
    pub fn takes_system(&self) -> bool {
        match self {
            Self::Format(format) => format.takes_system(),
            Self::Template(_) => true,
        }
    }

    /// Returns the file with the template, if it is a template.
    pub fn source(&self) -> Option<&WeightSource> {
        match self {
            Self::Format(_) => None,
            Self::Template(source) => Some(source),
        }
    }
}

impl fmt::Display for PromptEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => format.fmt(f),
            Self::Template(source) => write!(f, "the template of {source}"),
        }
    }
}

/// How frames become clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformEntry {
    /// How a frame is resized to a square.
    pub resize: ResizeStrategy,
}

/// How features become visual tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MixerEntry {
    /// The projector, the fusion and the token counts. They support the number of encoders in the registry.
    pub kind: MixerKind,
    /// The plugin of the fusion, if the kind is [`FusionKind::Plugin`](super::FusionKind::Plugin).
    pub fusion_plugin: Option<FusionEntry>,
    /// The weights of the projectors and the fusion.
    pub weights: MixerWeights,
    /// Whether the registry is compared with the config that is published with the checkpoint.
    pub check_config: bool,
    /// The line of `visual_feature_length`, for messages.
    pub(super) visual_feature_length_line: usize,
}

impl MixerEntry {
    /// Returns the name of the fusion, or its id if a plugin brings it.
    pub fn fusion_name(&self) -> String {
        match &self.fusion_plugin {
            Some(entry) => entry.id.clone(),
            None => self.kind.fusion.to_string(),
        }
    }
}

/// A fusion that a plugin brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FusionEntry {
    /// The id, which the plugin must provide.
    pub id: String,
    /// The plugin.
    pub plugin: PluginRef,
    /// Keys that only the plugin knows.
    pub options: BTreeMap<String, String>,
    /// The lines in the registry, for messages.
    pub(crate) lines: TableLines,
}

/// The source of a mixer's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MixerWeights {
    /// A file with all weights. It is never [`WeightSource::Checkpoint`].
    Trained(WeightSource),
    /// Initial weights for training.
    Init(MixerInit),
}

/// The initialisation of a mixer that has not been trained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MixerInit {
    /// The seed of the new tensors.
    pub seed: u64,
    /// The width of the learned query of `cross_attention_avg_lq`. The default is the width of the reused
    /// query, or else that of the published models.
    pub query_width: Option<usize>,
    /// A trained mixer. Every tensor of it that fits is reused.
    pub reuse: Option<MixerReuse>,
}

/// A trained mixer whose tensors are reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MixerReuse {
    /// Its weights. They are never [`WeightSource::Checkpoint`].
    pub weights: WeightSource,
    /// For each encoder, the number of its projector in the reused mixer, if there is one. `None` means that
    /// the numbers are the same.
    pub projectors: Option<Vec<Option<usize>>>,
    /// The ids of the reused mixer's encoders in its order, if they are listed.
    pub encoders: Vec<String>,
}

impl MixerReuse {
    /// Returns a warning about listed encoders that this registry does not have. They may be misspelt.
    pub fn unknown_encoders(&self) -> Option<String> {
        let here: Vec<&usize> = self.projectors.iter().flatten().flatten().collect();
        let listed = self.encoders.iter().enumerate();
        let unknown = listed.filter(|(place, _)| !here.contains(&place));
        let unknown: Vec<String> = unknown.map(|(_, id)| quoted(id)).collect();
        (!unknown.is_empty()).then(|| {
            format!(
                "`encoders` in `reuse` of [mixer] lists {}, but no encoder of this registry has that id: nothing \
                 is reused for it",
                unknown.join(", ")
            )
        })
    }
}

impl MixerWeights {
    /// Returns the file from which all or some tensors are read.
    pub fn source(&self) -> Option<&WeightSource> {
        match self {
            Self::Trained(source) => Some(source),
            Self::Init(init) => init.reuse.as_ref().map(|reuse| &reuse.weights),
        }
    }

    /// Returns the warning of [`MixerReuse::unknown_encoders`].
    pub fn unknown_encoders(&self) -> Option<String> {
        match self {
            Self::Trained(_) => None,
            Self::Init(init) => init.reuse.as_ref()?.unknown_encoders(),
        }
    }

    /// Returns the file with all weights, if they are trained.
    pub fn trained(&self) -> Option<&WeightSource> {
        match self {
            Self::Trained(source) => Some(source),
            Self::Init(_) => None,
        }
    }
}

impl fmt::Display for MixerWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trained(source) => source.fmt(f),
            Self::Init(MixerInit { seed, reuse, .. }) => {
                write!(f, "init, seed {seed}")?;
                match reuse {
                    Some(reuse) => write!(f, ", reusing {}", reuse.weights),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A reference to a plugin library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginRef {
    /// The plugin on the plugin path that provides the model and serves its device.
    Any,
    /// The name of a plugin on the plugin path. It consists of letters, digits, `_` and `-`.
    Name(String),
    /// The path of a library.
    Library {
        /// The file. It existed when the registry was resolved.
        path: PathBuf,
        /// The expected digest.
        sha256: Option<Sha256Digest>,
    },
}

impl Registry {
    /// Returns the files that the plugins need to describe their models.
    pub fn sources_of_sizes(&self) -> impl Iterator<Item = &WeightSource> {
        let configs = self.encoders.iter().map(|encoder| &encoder.config);
        let configs = configs.chain([&self.llm.config]).flatten();
        configs.chain(self.llm.sizes_in_weights())
    }

    /// Returns all files from which the model is loaded.
    pub fn sources(&self) -> impl Iterator<Item = &WeightSource> {
        let encoders = self.encoders.iter().flat_map(|encoder| &encoder.weights);
        let rest = [&self.llm.tokenizer, &self.llm.weights];
        let mixer = self.mixer.weights.source();
        let template = self.llm.prompt.source();
        self.sources_of_sizes()
            .chain(encoders)
            .chain(rest)
            .chain(mixer)
            .chain(template)
    }

    /// Returns a warning if the mixer has not been trained.
    pub fn untrained(&self) -> Option<String> {
        matches!(self.mixer.weights, MixerWeights::Init(_)).then(|| {
            format!(
                "the mixer of `{}` has not been trained (`weights` of [mixer] is `init`), so its answers about a \
                 video are meaningless; train it with `merv-host train --stage align`",
                self.id
            )
        })
    }

    /// Returns the number of frames to sample from a video. An encoder with fewer frames uses every K-th of
    /// them, where K is this number divided by its own.
    pub fn largest_num_frames(&self) -> usize {
        self.encoders
            .iter()
            .map(|encoder| encoder.num_frames)
            .max()
            .unwrap_or(1)
    }
}

impl EncoderEntry {
    /// Returns the location of the weights for messages.
    pub fn weights_name(&self) -> String {
        match &self.weights {
            Some(source) => source.to_string(),
            None => "none".to_owned(),
        }
    }
}

impl LlmEntry {
    /// Returns the weights if they are the only source of the model's sizes. This is so for a GGUF file.
    pub fn sizes_in_weights(&self) -> Option<&WeightSource> {
        (self.config.is_none() && self.weights.is_gguf()).then_some(&self.weights)
    }

    /// Returns the maximum number of text tokens of a prompt with `visual_tokens` in a context of
    /// `context_length`. One position is reserved for the start of the answer.
    pub fn prompt_tokens(&self, context_length: usize, visual_tokens: usize) -> usize {
        let room = context_length.saturating_sub(visual_tokens.saturating_add(1));
        room.min(self.max_length)
    }
}
