//! A clip as the language model will see it.

use crate::{Error, Stage, mixer::Mixed, transform::Clip};
use candle_core::Tensor;
use std::{collections::BTreeMap, sync::Arc};

/// A clip as the language model will see it, and everything on the way there. Made once, it serves many
/// prompts.
pub struct Visual {
    /// Ids of the encoders, in order.
    pub encoder_ids: Vec<String>,
    /// Numbers of the frames that were sampled; none if all features came from a cache.
    pub frame_indices: Vec<usize>,
    /// What each encoder saw, unless its features came from a cache.
    pub clips: Vec<Option<Arc<Clip>>>,
    /// What each encoder gave: `[1, T·S, D]`.
    pub features: Vec<Tensor>,
    /// What the mixer made of it.
    pub mixed: Mixed,
    /// Seconds by stage.
    pub timings: BTreeMap<Stage, f64>,
}

impl Visual {
    /// How much each encoder counts, by its id; nothing where the fusion does not weigh them.
    ///
    /// # Errors
    ///
    /// When the weights are not numbers of `f32`, which the mixer rules out.
    pub fn mixer_weights(&self) -> Result<Vec<(String, f32)>, Error> {
        let Some(weights) = &self.mixed.weights else {
            return Ok(Vec::new());
        };
        let weights = weights.flatten_all()?.to_vec1::<f32>()?;
        Ok(self.encoder_ids.iter().cloned().zip(weights).collect())
    }
}
