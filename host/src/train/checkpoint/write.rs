//! Writes one checkpoint.

use super::{
    error::{CheckpointError, write_error},
    names::{STATE, STATE_PARTS, file_name},
    state::{FileState, PartState, State},
    tensor_file::{TensorFile, TensorSpec, through_plugin},
};
use crate::{
    Error,
    disk::{checksum::with_json_checksum, whole_file},
    train::part::TrainedPart,
};
use merv_checkpoint::{Checkpoint, StoredTensor};
use merv_plugin_api::{ErrorKind, ParameterInfo, PluginError, StatePart, TensorView};
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Write},
    path::Path,
};

/// A part, with everything else that a checkpoint stores for it.
pub struct PartToSave<'p> {
    /// The part.
    pub part: &'p dyn TrainedPart,
    /// The number of steps in which the optimizer changed it.
    pub optimizer_steps: u64,
    /// Tensors that are not trained, as they are in the files that the part was loaded from. They are stored
    /// with its weights.
    pub untrained: &'p [(String, StoredTensor)],
}

/// Returns the tensors of a part's own files that are not among its parameters. Returns none if the parameters
/// have other names in the files.
///
/// # Errors
///
/// When the plugin reports an error.
pub fn untrained(
    files: &Checkpoint,
    part: &dyn TrainedPart,
) -> Result<Vec<(String, StoredTensor)>, Error> {
    let parameters = part.parameters()?;
    let names: HashSet<&str> = parameters.iter().map(|info| info.name.as_str()).collect();
    if !names.iter().any(|name| files.get(name).is_some()) {
        return Ok(Vec::new());
    }
    let rest = files
        .iter()
        .filter(|(name, tensor)| !names.contains(name) && is_writable(tensor));
    Ok(rest
        .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
        .collect())
}

/// Writes a checkpoint into an empty folder, and syncs all of it to the disk.
pub(super) fn fill(
    folder: &Path,
    parts: &[PartToSave<'_>],
    state: impl FnOnce(Vec<PartState>) -> State,
) -> Result<State, CheckpointError> {
    let states = parts.iter().map(|part| write_part(folder, part));
    let state = state(states.collect::<Result<_, _>>()?);
    let path = folder.join(STATE);
    let text = serde_json::to_string_pretty(&state).map_err(io::Error::from);
    text.and_then(|text| {
        let mut file = File::create_new(&path)?;
        writeln!(file, "{}", with_json_checksum(&text))?;
        file.sync_all()
    })
    .map_err(write_error(&path))?;
    sync_folder(folder)?;
    Ok(state)
}

fn write_part(folder: &Path, saved: &PartToSave<'_>) -> Result<PartState, CheckpointError> {
    let part = saved.part;
    let parameters = part.parameters()?;
    let mut files = Vec::new();
    for (state, suffix) in STATE_PARTS {
        if state != StatePart::WEIGHTS && saved.optimizer_steps == 0 {
            continue;
        }
        let name = file_name(part.name(), suffix);
        let path = folder.join(&name);
        let untrained = match state {
            StatePart::WEIGHTS => saved.untrained,
            _ => &[],
        };
        let trained = parameters.iter().map(|parameter| TensorSpec {
            name: parameter.name.clone(),
            dtype: "F32",
            bits: 32,
            shape: parameter.shape.clone(),
        });
        let rest = untrained.iter().filter_map(|(name, tensor)| {
            let (dtype, bits) = safetensors_type(tensor)?;
            Some(TensorSpec {
                name: name.clone(),
                dtype,
                bits,
                shape: tensor.shape.clone(),
            })
        });
        let specs: Vec<_> = trained.chain(rest).collect();
        let mut file = TensorFile::create(&path, &specs).map_err(write_error(&path))?;
        // A full disk is reported as an I/O error, not as an error of the plugin.
        let mut failed = None;
        let mut expected = (0..).zip(&parameters);
        let exported = part.export(state, &mut |index, values| {
            let parameter = next(expected.next(), index, &values)?;
            let numbers = values.f32s()?;
            if state == StatePart::WEIGHTS && !numbers.iter().all(|number| number.is_finite()) {
                failed = Some(CheckpointError::NotFinite {
                    part: part.name().to_owned(),
                    tensor: parameter.name.clone(),
                });
                return Err(PluginError::invalid("the weights are not finite"));
            }
            file.f32s(&parameter.name, numbers).map_err(|error| {
                let reported = through_plugin(&error);
                failed = Some(write_error(&path)(error));
                reported
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        exported?;
        if let Some((_, missing)) = expected.next() {
            let name = &missing.name;
            return Err(Error::from(bug(format!("it did not export `{name}`"))).into());
        }
        for (name, tensor) in untrained {
            file.raw(name, &tensor.read()).map_err(write_error(&path))?;
        }
        let written = file.finish().map_err(write_error(&path))?;
        files.push(FileState {
            name,
            bytes: written.bytes,
            sha256: written.sha256,
        });
    }
    Ok(PartState {
        name: part.name().to_owned(),
        optimizer_steps: saved.optimizer_steps,
        files,
    })
}

/// Returns the next parameter of an export, if it is the one that the part passes.
fn next<'p>(
    expected: Option<(u32, &'p ParameterInfo)>,
    index: u32,
    values: &TensorView<'_>,
) -> Result<&'p ParameterInfo, PluginError> {
    match expected {
        Some((place, parameter)) if place == index && parameter.shape == values.shape() => {
            Ok(parameter)
        }
        Some((place, parameter)) => Err(bug(format!(
            "expected parameter {place}, `{}` {:?}, to be exported, found parameter {index} of shape {:?}",
            parameter.name,
            parameter.shape,
            values.shape()
        ))),
        None => Err(bug(format!("it exported parameter {index} too"))),
    }
}

fn bug(what: String) -> PluginError {
    let message = format!("a bug in the plugin that is trained: {what}");
    PluginError::new(ErrorKind::INTERNAL, message)
}

/// Returns whether a checkpoint can contain a tensor in its stored type.
pub fn is_writable(tensor: &StoredTensor) -> bool {
    safetensors_type(tensor).is_some()
}

/// Returns the safetensors name of a tensor's type and its number of bits, or `None` if safetensors does not
/// have the type.
fn safetensors_type(tensor: &StoredTensor) -> Option<(&'static str, usize)> {
    use merv_checkpoint::StoredDtype as Stored;
    Some(match tensor.dtype {
        Stored::F32 => ("F32", 32),
        Stored::F16 => ("F16", 16),
        Stored::BF16 => ("BF16", 16),
        Stored::I64 => ("I64", 64),
        _ => return None,
    })
}

/// Syncs the names in a folder to the disk.
pub(super) fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    whole_file::sync_folder(folder).map_err(write_error(folder))
}
