//! The names in MERV's own checkpoints (`merv/training/strategies/fsdp.py`, `save_checkpoint`):
//! `{"model": {"projectors": …, "feature_fusion": …, "llm_backbone": {"llm.model.…": …}}}`, and beside
//! `model`, in some, the state of the training.
//!
//! Older files say `projector`, which is encoder 0's, and `adapter`, which is the fusion
//! (`merv/models/vidlms/merv.py`, `from_pretrained`). A checkpoint of the align stage holds no language
//! model.

/// What a tensor of a checkpoint belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointPart {
    /// The mixer, where it has this name: `projectors.<i>.…` or `feature_fusion.…`.
    Mixer(String),
    /// The language model, where it has this name: that of the model's own publication.
    LanguageModel(String),
    /// The state of an optimiser or schedule, which only training needs.
    Training,
    /// None of these: it is not from a checkpoint of MERV, or of a part that is not known.
    Other,
}

/// What the tensor `name` belongs to.
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

/// The name of a tensor of the mixer, from a checkpoint of MERV or from a file of the mixer alone; none
/// for a tensor of another part. For [`Checkpoint::rename`](crate::Checkpoint::rename).
pub fn mixer_name(name: &str) -> Option<String> {
    match part_of(name) {
        CheckpointPart::Mixer(name) => Some(name),
        CheckpointPart::Other => Some(name.to_owned()),
        CheckpointPart::LanguageModel(_) | CheckpointPart::Training => None,
    }
}

/// The name of a tensor of the language model, from a checkpoint of MERV or from a file of the language
/// model alone; none for a tensor of another part. For
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
    fn every_part_is_told_apart() {
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
