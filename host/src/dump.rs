//! Everything between a video and the first token, in one safetensors file: what a person comparing
//! implementations needs.

use crate::{Error, vidlm::Visual};
use candle_core::Tensor;
use safetensors::{Dtype, View};
use std::{borrow::Cow, path::Path};

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

/// Writes `frame_indices`, `clip.<id>` `[F, 3, S, S]`, `features.<id>` `[1, T·S, D]`, `projected.<id>`,
/// `fused`, `mixer_weights` `[1, E]`, `prompt_ids` and `logits` `[vocab_size]` of the first step.
///
/// The file is written beside `path` and renamed, so that it is whole or not there.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(
    path: &Path,
    visual: &Visual,
    prompt_ids: &[u32],
    logits: &[f32],
) -> Result<(), Error> {
    let mut items: Vec<(String, Item)> = vec![
        (
            "frame_indices".into(),
            integers(visual.frame_indices.iter().map(|&index| index as i64)),
        ),
        ("fused".into(), tensor(&visual.mixed.fused)?),
        ("mixer_weights".into(), tensor(&visual.mixed.weights)?),
        (
            "prompt_ids".into(),
            integers(prompt_ids.iter().map(|&id| i64::from(id))),
        ),
        ("logits".into(), floats(logits, vec![logits.len()])),
    ];
    for (index, id) in visual.encoder_ids.iter().enumerate() {
        let clip = &visual.clips[index];
        let shape = vec![clip.num_frames, 3, clip.image_size, clip.image_size];
        items.push((format!("clip.{id}"), floats(&clip.data, shape)));
        items.push((format!("features.{id}"), tensor(&visual.features[index])?));
        items.push((
            format!("projected.{id}"),
            tensor(&visual.mixed.projected[index])?,
        ));
    }
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let views = items.iter().map(|(name, item)| (name.as_str(), item));
    let bytes = safetensors::serialize(views, None)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|error| {
            // The error that matters is the first; a partial file that cannot be removed is a trifle.
            let _ = std::fs::remove_file(&partial);
            failed(error)
        })
}
