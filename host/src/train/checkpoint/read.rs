//! Reads one checkpoint.

use super::{
    error::{CheckpointError, read_error},
    names::{STATE, STATE_PARTS, file_name},
    state::{State, VERSION},
};
use crate::{
    Error,
    disk::checksum::{ChecksumState, Mismatch, check_json},
    registry::Sha256Digest,
    train::part::TrainedPart,
};
use merv_checkpoint::{Checkpoint, StoredDtype};
use merv_plugin_api::{StatePart, TensorView};
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

/// Maximum number of bytes of `state.json`.
const MAX_STATE: u64 = 1 << 28;

fn damaged(path: &Path, what: String) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_owned(),
        what,
    }
}

fn other(path: &Path, what: String) -> CheckpointError {
    CheckpointError::OtherParameters {
        path: path.to_owned(),
        what,
    }
}

/// Reads the state of a checkpoint, and checks that its files have the lengths that were written.
pub(super) fn state(folder: &Path) -> Result<State, CheckpointError> {
    let path = folder.join(STATE);
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_STATE).read_to_string(&mut text))
        .map_err(read_error(&path))?;
    if check_json(&text) == ChecksumState::Invalid {
        return Err(damaged(&path, Mismatch.to_string()));
    }
    let state: State =
        serde_json::from_str(&text).map_err(|error| damaged(&path, error.to_string()))?;
    if state.version != VERSION {
        let what = format!("it has version {}, expected {VERSION}", state.version);
        return Err(damaged(&path, what));
    }
    for file in state.parts.iter().flat_map(|part| &part.files) {
        let path = folder.join(&file.name);
        if Path::new(&file.name).components().count() != 1 {
            return Err(damaged(
                &path,
                "it is outside of the checkpoint's folder".to_owned(),
            ));
        }
        let found = fs::metadata(&path).map_err(read_error(&path))?.len();
        if found != file.bytes {
            let what = format!("it has {found} bytes, expected {}", file.bytes);
            return Err(damaged(&path, what));
        }
    }
    Ok(state)
}

/// Reads the state of a checkpoint, and checks that its files have the digests that were written.
pub(super) fn verified(folder: &Path) -> Result<State, CheckpointError> {
    let state = state(folder)?;
    for file in state.parts.iter().flat_map(|part| &part.files) {
        let path = folder.join(&file.name);
        let found = Sha256Digest::of_file(&path).map_err(read_error(&path))?;
        if found.to_string() != file.sha256 {
            let what = format!("its sha256 is {found}, expected {}", file.sha256);
            return Err(damaged(&path, what));
        }
    }
    Ok(state)
}

/// Restores the weights of a part and the optimizer's moments. Returns the number of steps in which the
/// optimizer changed it.
pub(super) fn restore(
    folder: &Path,
    state: &State,
    part: &mut dyn TrainedPart,
) -> Result<u64, CheckpointError> {
    let saved = state.parts.iter().find(|saved| saved.name == part.name());
    let saved =
        saved.ok_or_else(|| damaged(folder, format!("it does not contain `{}`", part.name())))?;
    let parameters = part.parameters()?;
    for (kind, suffix) in STATE_PARTS {
        if kind != StatePart::WEIGHTS && saved.optimizer_steps == 0 {
            continue;
        }
        let path = folder.join(file_name(part.name(), suffix));
        let tensors = Checkpoint::open(&[&path])
            .map_err(|error| Error::from(crate::registry::SourceError::from(error)))?;
        // The weights are stored with tensors that are not trained.
        if kind != StatePart::WEIGHTS && tensors.len() != parameters.len() {
            let (found, expected) = (tensors.len(), parameters.len());
            let what = format!("it has the state of {found} parameters, expected {expected}");
            return Err(other(&path, what));
        }
        for (index, parameter) in (0..).zip(&parameters) {
            let name = &parameter.name;
            let tensor = tensors.get(name);
            let tensor = tensor.filter(|tensor| tensor.dtype == StoredDtype::F32);
            let tensor = tensor
                .ok_or_else(|| other(&path, format!("it does not contain `{name}` in F32")))?;
            if tensor.shape != parameter.shape {
                let (found, expected) = (&tensor.shape, &parameter.shape);
                let what = format!("`{name}` has shape {found:?}, expected {expected:?}");
                return Err(other(&path, what));
            }
            let values: Vec<f32> = tensor
                .bytes()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect();
            let view = TensorView::new(&values, &tensor.shape).map_err(Error::from)?;
            part.import(kind, index, view)?;
        }
    }
    Ok(saved.optimizer_steps)
}
