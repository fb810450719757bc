//! The resolved registry: what the rest of the program works with.

use std::fmt;
use std::path::PathBuf;

use super::mixer_kind::MixerKind;
use super::placement::{DeviceChoice, DtypeChoice};
use super::sources::WeightSource;
use crate::disk::digest::Sha256Digest;
use crate::messages::shown;
use crate::prompt::{PromptFormat, VisualMarks};
use crate::transform::ResizeStrategy;

/// One complete video-language model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// The file it was read from, as it was named.
    pub path: PathBuf,
    /// The model's name.
    pub id: String,
    /// What it is, for people; may be empty.
    pub description: String,
    /// Under which terms its weights may be used, if the file says.
    pub license: Option<String>,
    /// What whoever uses the model should be told each time, if anything.
    pub notice: Option<String>,
    /// The encoders, in the order of the mixer's projectors. At least one; ids differ.
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
    /// Frames in a clip, at least 1; divides [`Registry::largest_num_frames`].
    pub num_frames: usize,
    /// The weights; absent for a model that has none.
    pub weights: Option<WeightSource>,
    /// The model's sizes: the file named, else `config.json` beside local weights if there is
    /// one, else none, and the plugin takes the published sizes of its id.
    pub config: Option<WeightSource>,
    /// Side of the square picture, if not the plugin's own.
    pub image_size: Option<usize>,
    /// Where it runs.
    pub device: DeviceChoice,
    /// In which format it computes.
    pub dtype: DtypeChoice,
    /// Where all of this stands, for messages.
    pub(crate) lines: TableLines,
}

/// The lines of a table and of those of its keys that a plugin may refuse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableLines {
    /// `[[encoders]] #2`
    pub(crate) name: String,
    /// The line where it begins.
    pub(crate) table: usize,
    /// Keys and their lines.
    pub(crate) keys: Vec<(&'static str, usize)>,
}

impl TableLines {
    /// The line of a key, or of its table where it is not written.
    pub(crate) fn of(&self, key: &str) -> usize {
        let found = self.keys.iter().find(|(name, _)| *name == key);
        found.map_or(self.table, |(_, line)| *line)
    }
}

/// The language model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlmEntry {
    /// A name for it; the plugin must provide it if it provides any by name.
    pub id: String,
    /// The plugin.
    pub plugin: PluginRef,
    /// The weights.
    pub weights: WeightSource,
    /// The tokenizer; unless the file says otherwise, the weights themselves when they are a GGUF file,
    /// else `tokenizer.json` beside them.
    pub tokenizer: WeightSource,
    /// The model's sizes, found as [`EncoderEntry::config`] is.
    pub config: Option<WeightSource>,
    /// The chat format.
    pub prompt: PromptEntry,
    /// The system prompt, for formats that take one; an empty one means none.
    pub system_prompt: Option<String>,
    /// What happens to `<image>` and `<video>` in messages.
    pub marks: VisualMarks,
    /// Whether special tokens in messages and replies, such as `</s>`, are plain characters.
    pub split_special_tokens: bool,
    /// Text tokens at most, at least 1; the visual tokens come on top.
    pub max_length: usize,
    /// Where it runs.
    pub device: DeviceChoice,
    /// In which format it computes.
    pub dtype: DtypeChoice,
    /// Where all of this stands, for messages.
    pub(crate) lines: TableLines,
}

/// How a conversation is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptEntry {
    /// A format that has a name.
    Format(PromptFormat),
    /// The Jinja template in this file: a GGUF file, a `tokenizer_config.json`, or one that is a template.
    Template(WeightSource),
}

impl PromptEntry {
    /// Whether there is a place for a system prompt. A template has one, or refuses it when it is used.
    pub fn takes_system(&self) -> bool {
        match self {
            Self::Format(format) => format.takes_system(),
            Self::Template(_) => true,
        }
    }

    /// The file that has to be there for it.
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
    /// How a frame becomes a square.
    pub resize: ResizeStrategy,
}

/// How features become visual tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MixerEntry {
    /// What it is; it can run for as many encoders as the registry has.
    pub kind: MixerKind,
    /// The weights of the projectors and the fusion.
    pub weights: MixerWeights,
    /// Whether the registry is compared with the config that is published beside the checkpoint.
    pub check_config: bool,
    /// The line of `visual_feature_length`, for messages.
    pub(super) visual_feature_length_line: usize,
}

/// Where a mixer's weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MixerWeights {
    /// From a file that has all of them; never [`WeightSource::Checkpoint`].
    Trained(WeightSource),
    /// They are yet to be trained.
    Init(MixerInit),
}

/// How a mixer begins that has not been trained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MixerInit {
    /// The seed of what is new.
    pub seed: u64,
    /// The width of the learned query of `cross_attention_avg_lq`; that of the reused one if absent, else the
    /// published models'.
    pub query_width: Option<usize>,
    /// A trained mixer, of which every tensor is taken that fits.
    pub reuse: Option<MixerReuse>,
}

/// Another mixer whose tensors are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MixerReuse {
    /// Its weights; never [`WeightSource::Checkpoint`].
    pub weights: WeightSource,
    /// For each encoder the number of its projector there, if it has one. Without a list they have the same numbers.
    pub projectors: Option<Vec<Option<usize>>>,
    /// The ids of its encoders, in its order, where they are listed.
    pub encoders: Vec<String>,
}

impl MixerReuse {
    /// What to tell of its encoders whose ids none has here: a slip looks just like it.
    pub fn strangers(&self) -> Option<String> {
        let here: Vec<&usize> = self.projectors.iter().flatten().flatten().collect();
        let listed = self.encoders.iter().enumerate();
        let strangers = listed.filter(|(place, _)| !here.contains(&place));
        let strangers: Vec<String> = strangers.map(|(_, id)| shown(id)).collect();
        (!strangers.is_empty()).then(|| {
            format!(
                "`encoders` in `reuse` of [mixer] lists {}, and no encoder here has that id: nothing is reused for it",
                strangers.join(", ")
            )
        })
    }
}

impl MixerWeights {
    /// The file that all tensors are taken from, or some.
    pub fn source(&self) -> Option<&WeightSource> {
        match self {
            Self::Trained(source) => Some(source),
            Self::Init(init) => init.reuse.as_ref().map(|reuse| &reuse.weights),
        }
    }

    /// See [`MixerReuse::strangers`].
    pub fn strangers(&self) -> Option<String> {
        match self {
            Self::Trained(_) => None,
            Self::Init(init) => init.reuse.as_ref()?.strangers(),
        }
    }

    /// The file that holds all of them, if they are trained.
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

/// Which plugin library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginRef {
    /// The one of this name on the plugin path: letters, digits, `_` and `-` alone.
    Name(String),
    /// This very library.
    Library {
        /// The file, which existed when the registry was resolved.
        path: PathBuf,
        /// The digest it must have.
        sha256: Option<Sha256Digest>,
    },
}

impl Registry {
    /// Files without which the plugins cannot describe their models.
    pub fn sources_of_sizes(&self) -> impl Iterator<Item = &WeightSource> {
        let configs = self.encoders.iter().map(|encoder| &encoder.config);
        let configs = configs.chain([&self.llm.config]).flatten();
        configs.chain(self.llm.sizes_in_weights())
    }

    /// Every file that the model is loaded from.
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

    /// What whoever uses the model should know of its mixer, if it has not been trained.
    pub fn untrained(&self) -> Option<String> {
        matches!(self.mixer.weights, MixerWeights::Init(_)).then(|| {
            format!(
                "the mixer of `{}` has not been trained (`weights` of [mixer] says `init`), so answers about a video \
                 mean nothing yet; train it with `merv-host train --stage align`",
                self.id
            )
        })
    }

    /// Frames to sample from a video; an encoder with fewer takes every (this / its own)-th.
    pub fn largest_num_frames(&self) -> usize {
        self.encoders
            .iter()
            .map(|encoder| encoder.num_frames)
            .max()
            .unwrap_or(1)
    }
}

impl EncoderEntry {
    /// Where its weights are, as messages say it.
    pub fn weights_name(&self) -> String {
        match &self.weights {
            Some(source) => source.to_string(),
            None => "none".to_owned(),
        }
    }
}

impl LlmEntry {
    /// The weights, where the model's sizes are known from nothing else: a GGUF file holds its own.
    pub fn sizes_in_weights(&self) -> Option<&WeightSource> {
        (self.config.is_none() && self.weights.is_gguf()).then_some(&self.weights)
    }

    /// Text tokens that a prompt may have beside `visual_tokens`, in a context of `context_length`. One
    /// position is left for the answer to begin in.
    pub fn prompt_tokens(&self, context_length: usize, visual_tokens: usize) -> usize {
        let room = context_length.saturating_sub(visual_tokens.saturating_add(1));
        room.min(self.max_length)
    }
}
