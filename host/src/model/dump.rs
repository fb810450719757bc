//! A dump of all intermediate results from the video to the first token in one safetensors file. It serves to
//! compare implementations.

use crate::{
    Error,
    disk::{
        file_id::same_file,
        tensor_names::check_names,
        whole_file::{WholeFile, place},
    },
    model::{options::GenerateOptions, visual::Visual},
    registry::{Registry, WeightSource},
    transform::Pixels,
};
use candle_core::Tensor;
use safetensors::{Dtype, View};
use std::{
    borrow::Cow,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A tensor of a dump.
struct Item {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Item {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn floats(values: &[f32], shape: Vec<usize>) -> Item {
    let bytes = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Item {
        dtype: Dtype::F32,
        shape,
        bytes,
    }
}

fn bytes(values: &[u8], shape: Vec<usize>) -> Item {
    Item {
        dtype: Dtype::U8,
        shape,
        bytes: values.to_vec(),
    }
}

fn integers(values: impl ExactSizeIterator<Item = i64>) -> Item {
    let shape = vec![values.len()];
    Item {
        dtype: Dtype::I64,
        shape,
        bytes: values.flat_map(i64::to_le_bytes).collect(),
    }
}

fn tensor(tensor: &Tensor) -> Result<Item, Error> {
    Ok(floats(
        &tensor.flatten_all()?.to_vec1::<f32>()?,
        tensor.dims().to_vec(),
    ))
}

/// A dump that is being written. The file is created atomically.
pub struct Dump {
    path: PathBuf,
    file: WholeFile,
}

impl Dump {
    /// Starts the dump if the options request one. It must not replace the video or a file of the model.
    ///
    /// # Errors
    ///
    /// The same as [`Self::create`].
    pub(crate) fn begin(
        options: &GenerateOptions,
        registry: &Registry,
        video: Option<&Path>,
    ) -> Result<Option<Self>, Error> {
        let Some(dump) = &options.dump else {
            return Ok(None);
        };
        let sources = registry.sources().filter_map(|source| match source {
            WeightSource::Local { path, .. } => Some(path.as_path()),
            _ => None,
        });
        let inputs: Vec<&Path> = video
            .into_iter()
            .chain([registry.path.as_path()])
            .chain(sources)
            .collect();
        Self::create(dump, &inputs).map(Some)
    }

    /// Starts a dump. A folder that is not writable is therefore detected before the computation.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be created, if `path` is something other than a regular file, or if
    /// it is one of the `inputs`.
    pub fn create(path: &Path, inputs: &[&Path]) -> Result<Self, Error> {
        let failed = |source| Error::Write {
            path: path.to_owned(),
            source,
        };
        if inputs.iter().any(|input| same_file(path, input)) {
            return Err(Error::OutputIsInput {
                path: path.to_owned(),
            });
        }
        // A link is followed: its target is replaced, not the link.
        let path = place(path).map_err(failed)?;
        let file = WholeFile::begin(&path).map_err(failed)?;
        Ok(Self { path, file })
    }

    /// Writes `frame_indices`, `clip.<id>` `[F, 3, S, S]` (`u8` for encoders that take bytes), `features.<id>`
    /// `[1, T·S, D]`, `projected.<id>`, `fused`, `prompt_ids`, and `logits` `[vocab_size]` of the first step. If the
    /// fusion is a weighted sum, `mixer_weights` `[1, E]` is written too.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn write(
        mut self,
        visual: &Visual,
        prompt_ids: &[u32],
        logits: &[f32],
    ) -> Result<(), Error> {
        let items = items(visual, prompt_ids, logits)?;
        let views = items.iter().map(|(name, item)| (name.as_str(), item));
        let written = check_names(items.iter().map(|(name, _)| name.as_str()))
            .map_err(io::Error::from)
            .and_then(|()| safetensors::serialize(views, None).map_err(io::Error::other))
            .and_then(|bytes| self.file.write_all(&bytes))
            .and_then(|()| self.file.finish());
        written.map_err(|source| Error::Write {
            path: self.path,
            source,
        })
    }
}

fn items(
    visual: &Visual,
    prompt_ids: &[u32],
    logits: &[f32],
) -> Result<Vec<(String, Item)>, Error> {
    let frame_indices = visual.frame_indices.iter().map(|&index| index as i64);
    let mut items: Vec<(String, Item)> = vec![
        ("frame_indices".into(), integers(frame_indices)),
        ("fused".into(), tensor(&visual.mixed.fused)?),
        (
            "prompt_ids".into(),
            integers(prompt_ids.iter().map(|&id| i64::from(id))),
        ),
        ("logits".into(), floats(logits, vec![logits.len()])),
    ];
    if let Some(weights) = &visual.mixed.weights {
        items.push(("mixer_weights".into(), tensor(weights)?));
    }
    for (index, id) in visual.encoder_ids.iter().enumerate() {
        // If the features came from a cache, the clip was not decoded.
        if let Some(clip) = &visual.clips[index] {
            let shape = vec![clip.num_frames, 3, clip.image_size, clip.image_size];
            let item = match &clip.data {
                Pixels::F32(values) => floats(values, shape),
                Pixels::U8(values) => bytes(values, shape),
            };
            items.push((format!("clip.{id}"), item));
        }
        items.push((format!("features.{id}"), tensor(&visual.features[index])?));
        items.push((
            format!("projected.{id}"),
            tensor(&visual.mixed.projected[index])?,
        ));
    }
    Ok(items)
}
