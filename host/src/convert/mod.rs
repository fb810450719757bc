//! Converts checkpoints to safetensors: any file that `merv-checkpoint` reads. Tensors are converted one by one, so a
//! checkpoint can be larger than memory.
//!
//! A checkpoint of MERV becomes `mixer.safetensors`, `llm/model.safetensors` and a registry file that uses them. Any
//! other checkpoint becomes `model.safetensors`. Output above the maximum file size is split into several shards and
//! an index, with the file names of Hugging Face. The output is written to a temporary folder, which is renamed when
//! it is complete.

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

/// The maximum ratio of the size of all tensors to the size of the files. Tied weights count twice; a malicious file
/// can refer to one storage a thousand times.
const MAX_SHARING: u64 = 4;

/// The options of a conversion.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// The type of floating-point numbers: F32, F16 or BF16; `None` keeps their type.
    pub dtype: Option<Dtype>,
    /// The maximum size of a file in bytes, unless a single tensor is larger.
    pub max_shard_bytes: u64,
    /// The registry of a checkpoint of MERV, as a file or a name.
    pub template: Option<PathBuf>,
    /// Whether to replace the output of an earlier conversion.
    pub force: bool,
}

/// The result of a conversion.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertReport {
    /// Whether the input is a checkpoint of MERV.
    pub is_merv: bool,
    /// The files with tensors.
    pub files: Vec<WrittenFile>,
    /// The registry file, if one was written.
    pub registry: Option<PathBuf>,
    /// The contents of the checkpoint that were not converted.
    pub left_out: Skipped,
}

/// The contents of a checkpoint that were not converted.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Skipped {
    /// The number of tensors of an optimiser state.
    pub training: usize,
    /// The number of values that are not tensors, such as the epoch.
    pub values: usize,
}

/// Converts the checkpoint in `inputs` (files, or the index of several files) into the folder `out`. `progress` is
/// called with the name of the tensor, the bytes written so far, and the total.
///
/// # Errors
///
/// When the checkpoint cannot be read, or contains a tensor that safetensors or the chosen type cannot represent;
/// when `out` cannot be written, exists and `force` is not set, or contains other files; and when the template is
/// not the registry of this checkpoint.
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
        // The mixer stays in one file: it is small, and a registry refers to it.
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
            let files = registry::ConvertedFiles {
                mixer: &mixer.entry,
                language_model: language_model.as_deref(),
                projectors: sorted.projectors(),
            };
            let name = files.write(template, output.folder())?;
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

/// Returns the files in `inputs`, with each index replaced by its files.
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
            "the tensors of the checkpoint have {bytes} bytes, but its files have only {files}: too many tensors \
             share a storage"
        )));
    }
    Ok(())
}

/// The tensors of a checkpoint, sorted by the part that they belong to, under their new names.
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
                    "this is a checkpoint of MERV, but tensor `{}` does not belong to any part of it: expected \
                     `model.projectors.…`, `model.feature_fusion.…`, `model.llm_backbone.llm.…` or training state",
                    foreign.name
                )));
            }
            if sorted.mixer.is_empty() {
                return Err(ConvertError::Refused(
                    "this is a checkpoint of MERV, but it does not contain projectors".to_owned(),
                ));
            }
        } else if sorted.others.is_empty() {
            return Err(ConvertError::Refused(
                "the checkpoint does not contain tensors to convert".to_owned(),
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

    /// Returns the number of encoders of the mixer.
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
            "tensor `{name}` in {} has the type {}, which safetensors does not support; use the GGUF file directly \
             in a registry",
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
