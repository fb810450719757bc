//! The two data sets that `synth` makes.

/// One of the two data sets. They have no combination in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The training set: `train.json`, `open.json`, `captions.json` and `videos/`.
    Train,
    /// The held-out set: `eval_data/shapes-mcq/` and `eval_data/shapes-open/`.
    HeldOut,
}
