//! The two data sets that `synth` makes.

/// Which of two data sets without a common combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// To train on: `train.json`, `open.json`, `captions.json` and `videos/`.
    Train,
    /// To ask about: `eval_data/shapes-mcq/` and `eval_data/shapes-open/`.
    HeldOut,
}
