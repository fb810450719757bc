//! The visual tokens of a clip.

use crate::{Error, Stage, mixer::Mixed, transform::Clip};
use candle_core::Tensor;
use std::{collections::BTreeMap, sync::Arc};

/// The visual tokens of a clip, and all intermediate results. It can be used for many prompts.
pub struct Visual {
    /// The ids of the encoders, in order.
    pub encoder_ids: Vec<String>,
    /// The indices of the sampled frames. Empty if all features came from a cache.
    pub frame_indices: Vec<usize>,
    /// The input of each encoder, unless its features came from a cache.
    pub clips: Vec<Option<Arc<Clip>>>,
    /// The output of each encoder: `[1, T·S, D]`.
    pub features: Vec<Tensor>,
    /// The output of the mixer.
    pub mixed: Mixed,
    /// The seconds of each stage.
    pub timings: BTreeMap<Stage, f64>,
}

impl Visual {
    /// Returns the weight of each encoder with its id. The list is empty if the fusion is not a weighted sum.
    ///
    /// # Errors
    ///
    /// Returns an error if the weights are not `f32`. The mixer always computes `f32`.
    pub fn mixer_weights(&self) -> Result<Vec<(String, f32)>, Error> {
        let Some(weights) = &self.mixed.weights else {
            return Ok(Vec::new());
        };
        let weights = weights.flatten_all()?.to_vec1::<f32>()?;
        Ok(self.encoder_ids.iter().cloned().zip(weights).collect())
    }
}
