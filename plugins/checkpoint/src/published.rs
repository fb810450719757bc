//! The names in MERV's own checkpoints (`merv/training/strategies/fsdp.py`, `save_checkpoint`):
//! `{"model": {"projectors": …, "feature_fusion": …, "llm_backbone": {"llm.model.…": …}}}`. Some also
//! contain the state of the training, next to `model`.
//!
//! Older files use the names `projector` for the projector of encoder 0 and `adapter` for the fusion
//! (`merv/models/vidlms/merv.py`, `from_pretrained`). A checkpoint of the align stage has no language
//! model.

/// The part of a checkpoint that a tensor belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointPart {
    /// The mixer, with the tensor's name there: `projectors.<i>.…` or `feature_fusion.…`.
    Mixer(String),
    /// The language model, with the tensor's name in that model's own files.
    LanguageModel(String),
    /// The state of an optimiser or schedule, which only training uses.
    Training,
    /// An unknown part, or not a checkpoint of MERV.
    Other,
}

/// Returns the part that the tensor `name` belongs to.
pub fn part_of(name: &str) -> CheckpointPart {
    let below = |prefix: &str| name.strip_prefix(prefix);
    if let Some(rest) = below("model.projectors.") {
        CheckpointPart::Mixer(format!("projectors.{rest}"))
    } else if let Some(rest) = below("model.projector.") {
        CheckpointPart::Mixer(format!("projectors.0.{rest}"))
    } else if let Some(rest) = below("model.feature_fusion.").or_else(|| below("model.adapter.")) {
        CheckpointPart::Mixer(format!("feature_fusion.{rest}"))
    } else if let Some(rest) = below("model.llm_backbone.llm.") {
        CheckpointPart::LanguageModel(rest.to_owned())
    } else if below("optimizer.").or(below("lr_scheduler.")).is_some() {
        CheckpointPart::Training
    } else {
        CheckpointPart::Other
    }
}

/// Returns the name of a mixer tensor, in a checkpoint of MERV or in a file of the mixer alone. Returns
/// `None` for a tensor of another part. For [`Checkpoint::rename`](crate::Checkpoint::rename).
pub fn mixer_name(name: &str) -> Option<String> {
    match part_of(name) {
        CheckpointPart::Mixer(name) => Some(name),
        CheckpointPart::Other => Some(name.to_owned()),
        CheckpointPart::LanguageModel(_) | CheckpointPart::Training => None,
    }
}

/// Returns the name of a language model tensor, in a checkpoint of MERV or in a file of the language model
/// alone. Returns `None` for a tensor of another part. For
/// [`Checkpoint::rename`](crate::Checkpoint::rename).
pub fn language_model_name(name: &str) -> Option<String> {
    match part_of(name) {
        CheckpointPart::LanguageModel(name) => Some(name),
        CheckpointPart::Other => Some(name.to_owned()),
        CheckpointPart::Mixer(_) | CheckpointPart::Training => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_recognised_by_name() {
        let mixer = |name: &str| CheckpointPart::Mixer(name.to_owned());
        for (name, expected) in [
            (
                "model.projectors.2.projector.projector.weight",
                mixer("projectors.2.projector.projector.weight"),
            ),
            (
                "model.projector.projector.weight",
                mixer("projectors.0.projector.weight"),
            ),
            ("model.feature_fusion.Q", mixer("feature_fusion.Q")),
            (
                "model.adapter.attention.in_proj_bias",
                mixer("feature_fusion.attention.in_proj_bias"),
            ),
            (
                "model.llm_backbone.llm.lm_head.weight",
                CheckpointPart::LanguageModel("lm_head.weight".to_owned()),
            ),
            ("optimizer.state.0.exp_avg", CheckpointPart::Training),
            ("model.layers.0.mlp.up_proj.weight", CheckpointPart::Other),
            ("projectors.0.projector.weight", CheckpointPart::Other),
            ("model.llm_backbone.other", CheckpointPart::Other),
        ] {
            assert_eq!(part_of(name), expected, "{name}");
        }
        assert_eq!(mixer_name("model.llm_backbone.llm.lm_head.weight"), None);
        assert_eq!(language_model_name("model.adapter.Q"), None);
        assert_eq!(
            language_model_name("lm_head.weight").as_deref(),
            Some("lm_head.weight")
        );
    }
}
