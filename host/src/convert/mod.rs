//! Checkpoints to safetensors: any file that `merv-checkpoint` reads, one tensor after the other, so that
//! what is larger than memory converts too.
//!
//! A checkpoint of MERV becomes `mixer.safetensors`, `llm/model.safetensors` and a registry file that uses
//! them; any other one `model.safetensors`. What gets too large for one file becomes several and an
//! index, as Hugging Face names them. The folder is made beside its place and renamed when it is whole.

mod error;
mod numbers;
mod output;
mod registry;
mod shards;

pub use error::ConvertError;
pub use safetensors::Dtype;

use crate::disk::tensor_names::check_names;
use merv_plugin_sdk::checkpoint::{
    Checkpoint, ShardIndex, StoredTensor,
    published::{CheckpointPart, part_of},
};
use numbers::stored_as;
use output::Output;
use serde::Serialize;
use shards::OutputTensor;
pub use shards::WrittenFile;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How many times as many bytes as the files have the tensors of a checkpoint may take together. Tied
/// weights are counted twice; a file made to deceive counts one storage a thousand times.
const MAX_SHARING: u64 = 4;

/// How to convert.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// The type of floating-point numbers: F32, F16 or BF16, or as they are.
    pub dtype: Option<Dtype>,
    /// Bytes of a file at most, unless a single tensor is larger.
    pub max_shard_bytes: u64,
    /// The registry, a file or a name, that a checkpoint of MERV belongs to.
    pub template: Option<PathBuf>,
    /// Whether to replace what an earlier conversion made.
    pub force: bool,
}

/// What a conversion made.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertReport {
    /// Whether it was a checkpoint of MERV.
    pub is_merv: bool,
    /// The files with tensors.
    pub files: Vec<WrittenFile>,
    /// The registry file, if one was made.
    pub registry: Option<PathBuf>,
    /// What is in the checkpoint, but not in the files.
    pub left_out: Skipped,
}

/// What is in a checkpoint, but not in the files.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Skipped {
    /// Tensors of an optimiser's state.
    pub training: usize,
    /// Values that are no tensors, such as the number of an epoch.
    pub values: usize,
}

/// Converts the checkpoint in `inputs` (files, or the index of several) into the folder `out`. `progress`
/// is told the tensor, the bytes that were written and those of all.
///
/// # Errors
///
/// When the checkpoint cannot be read, or holds a tensor that safetensors or the chosen type cannot; when
/// `out` is there (without `force`, or with other files in it) or cannot be written; and when the template
/// is no registry of this checkpoint.
pub fn convert(
    inputs: &[PathBuf],
    out: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<ConvertReport, ConvertError> {
    let paths = expand(inputs)?;
    let checkpoint = Checkpoint::open(&paths)?;
    refuse_bombs(&checkpoint, &paths).map_err(|error| error.about(&paths))?;
    let output = Output::begin(out, &paths, options.force)?;
    let sorted =
        SortedTensors::new(&checkpoint, options.dtype).map_err(|error| error.about(&paths))?;
    let mut writer = shards::Writer {
        folder: output.folder(),
        max_bytes: options.max_shard_bytes,
        done: 0,
        total: sorted.bytes(),
        progress,
    };
    let mut report = ConvertReport {
        is_merv: sorted.is_merv(),
        files: Vec::new(),
        registry: None,
        left_out: Skipped {
            training: sorted.training,
            values: checkpoint.ignored().count(),
        },
    };
    if sorted.is_merv() {
        // The mixer stays one file: it is small, and a registry names it.
        let mixer = shards::Writer {
            max_bytes: u64::MAX,
            ..writer.reborrow()
        }
        .write("mixer", &sorted.mixer)?;
        writer.done += mixer.files.iter().map(|file| file.bytes).sum::<u64>();
        report.files.extend(mixer.files);
        let mut language_model = None;
        if !sorted.language_model.is_empty() {
            let written = writer.write("llm/model", &sorted.language_model)?;
            report.files.extend(written.files);
            language_model = Some(written.entry);
        }
        if let Some(template) = &options.template {
            let made = registry::ConvertedFiles {
                mixer: &mixer.entry,
                language_model: language_model.as_deref(),
                projectors: sorted.projectors(),
            };
            let name = made.write(template, output.folder())?;
            report.registry = Some(name);
        }
    } else {
        report
            .files
            .extend(writer.write("model", &sorted.others)?.files);
    }
    output.finish()?;
    Ok(report)
}

/// The files that `inputs` name, those of an index in its place.
fn expand(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, ConvertError> {
    let mut paths = Vec::new();
    for input in inputs {
        let name = input.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".index.json") {
            paths.extend(ShardIndex::read(input)?);
        } else {
            paths.push(input.clone());
        }
    }
    Ok(paths)
}

fn refuse_bombs(checkpoint: &Checkpoint, paths: &[PathBuf]) -> Result<(), ConvertError> {
    let bytes = checkpoint.iter().fold(0u64, |sum, (_, tensor)| {
        sum.saturating_add(tensor.byte_len() as u64)
    });
    let sizes = paths.iter().filter_map(|path| fs::metadata(path).ok());
    let files: u64 = sizes.map(|metadata| metadata.len()).sum();
    if bytes / MAX_SHARING > files {
        return Err(ConvertError::Refused(format!(
            "the tensors of the checkpoint take {bytes} bytes, but its files have {files}: they share \
             their storages beyond all measure"
        )));
    }
    Ok(())
}

/// The tensors by what they belong to, under the names that they get.
#[derive(Default)]
struct SortedTensors<'c> {
    mixer: Vec<OutputTensor<'c>>,
    language_model: Vec<OutputTensor<'c>>,
    others: Vec<OutputTensor<'c>>,
    training: usize,
}

impl<'c> SortedTensors<'c> {
    fn new(checkpoint: &'c Checkpoint, dtype: Option<Dtype>) -> Result<Self, ConvertError> {
        let mut sorted = Self::default();
        for (name, tensor) in checkpoint.iter() {
            let item = |name| item(name, tensor, dtype);
            match part_of(name) {
                CheckpointPart::Mixer(name) => sorted.mixer.push(item(name)?),
                CheckpointPart::LanguageModel(name) => sorted.language_model.push(item(name)?),
                CheckpointPart::Training => sorted.training += 1,
                CheckpointPart::Other => sorted.others.push(item(name.to_owned())?),
            }
        }
        for part in [&sorted.mixer, &sorted.language_model, &sorted.others] {
            check_names(part.iter().map(|item| item.name.as_str())).map_err(|error| {
                ConvertError::Refused(format!("{error}; rename it in the checkpoint"))
            })?;
        }
        if sorted.is_merv() {
            if let Some(foreign) = sorted.others.first() {
                return Err(ConvertError::Refused(format!(
                    "the checkpoint is one of MERV, but tensor `{}` is of none of its parts: expected \
                     `model.projectors.…`, `model.feature_fusion.…`, `model.llm_backbone.llm.…` or the \
                     state of the training",
                    foreign.name
                )));
            }
            if sorted.mixer.is_empty() {
                return Err(ConvertError::Refused(
                    "the checkpoint is one of MERV, but holds no projectors".to_owned(),
                ));
            }
        } else if sorted.others.is_empty() {
            return Err(ConvertError::Refused(
                "the checkpoint holds no tensors to convert".to_owned(),
            ));
        }
        Ok(sorted)
    }

    fn is_merv(&self) -> bool {
        !self.mixer.is_empty() || !self.language_model.is_empty()
    }

    fn bytes(&self) -> u64 {
        let all = [&self.mixer, &self.language_model, &self.others];
        all.into_iter().flatten().map(OutputTensor::bytes).sum()
    }

    /// How many encoders the mixer is for.
    fn projectors(&self) -> usize {
        let indices = self.mixer.iter().filter_map(|item| {
            let rest = item.name.strip_prefix("projectors.")?;
            rest.split('.').next()?.parse::<usize>().ok()
        });
        indices.max().map_or(0, |last| last.saturating_add(1))
    }
}

fn item(
    name: String,
    tensor: &StoredTensor,
    dtype: Option<Dtype>,
) -> Result<OutputTensor<'_>, ConvertError> {
    let dtype = stored_as(tensor.dtype, dtype).ok_or_else(|| {
        ConvertError::Refused(format!(
            "tensor `{name}` in {} is of {}, which safetensors files do not hold; registries take GGUF \
             files as they are",
            tensor.path().display(),
            tensor.dtype
        ))
    })?;
    Ok(OutputTensor {
        name,
        tensor,
        dtype,
    })
}
