//! The names in MERV's own checkpoints (`merv/training/strategies/fsdp.py`, `save_checkpoint`):
//! `{"model": {"projectors": …, "feature_fusion": …, "llm_backbone": {"llm.model.…": …}}}`, and beside
//! `model`, in some, the state of the training.
//!
//! Older files say `projector`, which is encoder 0's, and `adapter`, which is the fusion
//! (`merv/models/vidlms/merv.py`, `from_pretrained`). A checkpoint of the align stage holds no language
//! model.

/// What a tensor of a checkpoint belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
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
pub fn part(name: &str) -> Part {
    let below = |prefix: &str| name.strip_prefix(prefix);
    if let Some(rest) = below("model.projectors.") {
        Part::Mixer(format!("projectors.{rest}"))
    } else if let Some(rest) = below("model.projector.") {
        Part::Mixer(format!("projectors.0.{rest}"))
    } else if let Some(rest) = below("model.feature_fusion.").or_else(|| below("model.adapter.")) {
        Part::Mixer(format!("feature_fusion.{rest}"))
    } else if let Some(rest) = below("model.llm_backbone.llm.") {
        Part::LanguageModel(rest.to_owned())
    } else if below("optimizer.").or(below("lr_scheduler.")).is_some() {
        Part::Training
    } else {
        Part::Other
    }
}

/// The name of a tensor of the mixer, from a checkpoint of MERV or from a file of the mixer alone; none
/// for a tensor of another part. For [`Checkpoint::rename`](crate::Checkpoint::rename).
pub fn mixer_name(name: &str) -> Option<String> {
    match part(name) {
        Part::Mixer(name) => Some(name),
        Part::Other => Some(name.to_owned()),
        Part::LanguageModel(_) | Part::Training => None,
    }
}

/// The name of a tensor of the language model, from a checkpoint of MERV or from a file of the language
/// model alone; none for a tensor of another part. For
/// [`Checkpoint::rename`](crate::Checkpoint::rename).
pub fn language_model_name(name: &str) -> Option<String> {
    match part(name) {
        Part::LanguageModel(name) => Some(name),
        Part::Other => Some(name.to_owned()),
        Part::Mixer(_) | Part::Training => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_told_apart() {
        let mixer = |name: &str| Part::Mixer(name.to_owned());
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
                Part::LanguageModel("lm_head.weight".to_owned()),
            ),
            ("optimizer.state.0.exp_avg", Part::Training),
            ("model.layers.0.mlp.up_proj.weight", Part::Other),
            ("projectors.0.projector.weight", Part::Other),
            ("model.llm_backbone.other", Part::Other),
        ] {
            assert_eq!(part(name), expected, "{name}");
        }
        assert_eq!(mixer_name("model.llm_backbone.llm.lm_head.weight"), None);
        assert_eq!(language_model_name("model.adapter.Q"), None);
        assert_eq!(
            language_model_name("lm_head.weight").as_deref(),
            Some("lm_head.weight")
        );
    }
}
