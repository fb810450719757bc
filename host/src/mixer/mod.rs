//! Converts the features of all encoders to one sequence of visual tokens with the width of the language model: one
//! projector per encoder, then a fusion.
//!
//! The mixer is the part that MERV adds (arXiv 2501.01426, §3; `merv/models/vidlms/merv.py`,
//! `merv/util/nn_utils.py`). Its weights are in MERV's checkpoint, or in a separate file under the same names:
//! `projectors.<i>.…` and `feature_fusion.…`.

mod core;
mod cost;
mod error;
mod forward;
mod fusion;
mod layers;
mod learned;
mod load;
mod model;
mod parameters;
mod plan;
mod projector;

use crate::registry::{FusionKind, MixerKind};
use merv_checkpoint::published;
use merv_plugin_sdk::weights;
use std::path::Path;

pub use core::CoreMixer;
pub use cost::cost;
pub use error::MixerError;
pub use forward::{Mixed, Mixer};
pub use merv_architectures::mixer::{Cost, EncoderShape, fusion::PUBLISHED_QUERY_WIDTH};
pub use model::{FusionPlugin, MixerModel};
pub use parameters::Parameter;
pub use plan::{MixerPlan, PlannedTensor};

/// Returns the width of the learned query in the weights at `path`. Returns that of the published models if the mixer
/// has no learned query, or `path` is `None`. Reads only the header of the file.
///
/// # Errors
///
/// When the file cannot be read.
pub fn query_width(kind: MixerKind, path: Option<&Path>) -> Result<usize, MixerError> {
    let (FusionKind::CrossAttentionAvgLq, Some(path)) = (kind.fusion, path) else {
        return Ok(PUBLISHED_QUERY_WIDTH);
    };
    let checkpoint = weights::open(&[path.to_path_buf()], published::mixer_name)?;
    // The shape of the tensor is checked when it is loaded.
    Ok(load::query_width(&checkpoint).unwrap_or(PUBLISHED_QUERY_WIDTH))
}
