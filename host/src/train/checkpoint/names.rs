//! The names of the files of checkpoints.

use merv_plugin_api::StatePart;

/// The folder of a run's checkpoints.
pub(in crate::train) const CHECKPOINTS: &str = "checkpoints";

/// The file that describes a checkpoint.
pub(super) const STATE: &str = "state.json";

/// The suffixes of a part's files, by their contents.
pub(super) const STATE_PARTS: [(StatePart, &str); 3] = [
    (StatePart::WEIGHTS, ""),
    (StatePart::FIRST_MOMENT, ".first-moment"),
    (StatePart::SECOND_MOMENT, ".second-moment"),
];

/// Returns the name of a part's file in a checkpoint.
pub(in crate::train) fn file_name(part: &str, kind: &str) -> String {
    format!("{part}{kind}.safetensors")
}
