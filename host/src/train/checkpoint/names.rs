//! What the files of checkpoints are called.

use merv_plugin_api::StatePart;

/// The folder of a run's checkpoints.
pub(in crate::train) const CHECKPOINTS: &str = "checkpoints";

/// The file in which a checkpoint says what it is.
pub(super) const STATE: &str = "state.json";

/// The files of a part, by what they hold.
pub(super) const STATE_PARTS: [(StatePart, &str); 3] = [
    (StatePart::Weights, ""),
    (StatePart::FirstMoment, ".first-moment"),
    (StatePart::SecondMoment, ".second-moment"),
];

/// The name of a part's file in a checkpoint.
pub(in crate::train) fn file_name(part: &str, kind: &str) -> String {
    format!("{part}{kind}.safetensors")
}
