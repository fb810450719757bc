//! The folder of a run's checkpoints: finds the newest, writes new ones, and removes old ones.

use super::{
    error::{CheckpointError, read_error, write_error},
    names::CHECKPOINTS,
    read,
    state::{PartState, State, VERSION},
    write::{self, PartToSave},
};
use crate::train::part::TrainedPart;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "step-";
/// The prefix of a checkpoint that is being written.
const PARTIAL: &str = ".partial-";

/// The notice about a run that is resumed before its first checkpoint.
pub const NO_CHECKPOINT: &str = "the run has no checkpoint yet; it starts at its first step";

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
    /// How many are kept in addition to the best.
    keep: usize,
    /// The checkpoints that were not found damaged, in ascending order of their steps.
    saved: Vec<Saved>,
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The number of completed steps.
    pub step: u64,
    /// The loss on held-out examples, if it was computed.
    pub validation_loss: Option<f64>,
    /// The SHA-256 of its files, by name.
    digests: BTreeMap<String, String>,
}

impl Saved {
    fn new(state: &State) -> Self {
        let files = state.parts.iter().flat_map(|part| &part.files);
        Self {
            step: state.step,
            validation_loss: state.validation_loss,
            digests: files
                .map(|file| (file.name.clone(), file.sha256.clone()))
                .collect(),
        }
    }
}

/// A file of a checkpoint, as the run's registry refers to it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedFile {
    /// Its path, relative to the run's folder.
    pub path: String,
    /// Its digest.
    pub sha256: Option<String>,
}

impl Checkpoints {
    /// Opens the checkpoints of a run, whose folder this process has locked. Reads none of them yet.
    ///
    /// # Errors
    ///
    /// When the folder cannot be created, or something that is not a checkpoint has the name of one.
    pub fn open(run: &Path, keep: usize) -> Result<Self, CheckpointError> {
        let folder = run.join(CHECKPOINTS);
        fs::create_dir_all(&folder).map_err(write_error(&folder))?;
        steps(&folder)?;
        // The run's folder is locked, so these are left over from a run that was killed.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(Self {
            folder,
            keep,
            saved: Vec::new(),
        })
    }

    /// As [`Self::newest`], without changing anything in the run's folder, which may not have a checkpoint yet.
    ///
    /// # Errors
    ///
    /// As [`Self::newest`].
    pub fn newest_of(run: &Path, warn: impl FnMut(&str)) -> Result<Option<State>, CheckpointError> {
        let mut checkpoints = Self {
            folder: run.join(CHECKPOINTS),
            keep: 0,
            saved: Vec::new(),
        };
        match Self::exist(run)? {
            true => checkpoints.newest(warn),
            false => Ok(None),
        }
    }

    /// Returns whether a run's folder contains a checkpoint.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read, or something that is not a checkpoint has the name of one.
    pub fn exist(run: &Path) -> Result<bool, CheckpointError> {
        let folder = run.join(CHECKPOINTS);
        match folder.exists() {
            true => Ok(!steps(&folder)?.is_empty()),
            false => Ok(false),
        }
    }

    /// Returns the newest checkpoint whose files are undamaged. Calls `warn` for each newer one, with the
    /// reason why it is not used.
    ///
    /// # Errors
    ///
    /// When there are checkpoints, but none of them can be used.
    pub fn newest(&mut self, mut warn: impl FnMut(&str)) -> Result<Option<State>, CheckpointError> {
        let steps = steps(&self.folder)?;
        let mut newest = None;
        self.saved.clear();
        for &step in steps.iter().rev() {
            let folder = self.place(step);
            // Only the losses of older checkpoints are needed, to find the best.
            let state = match newest {
                None => read::verified(&folder),
                Some(_) => read::state(&folder),
            };
            match state {
                Ok(state) => {
                    self.saved.push(Saved::new(&state));
                    newest.get_or_insert(state);
                }
                Err(error) if newest.is_none() => {
                    let why = crate::in_one_line(&error);
                    warn(&format!("the checkpoint of step {step} is not used: {why}"));
                }
                Err(_) => {}
            }
        }
        self.saved.reverse();
        if newest.is_none() && !steps.is_empty() {
            return Err(CheckpointError::AllDamaged {
                path: self.folder.clone(),
                count: steps.len(),
            });
        }
        Ok(newest)
    }

    /// Restores the state of a part from a checkpoint. Returns the number of steps in which the optimizer
    /// changed it.
    ///
    /// # Errors
    ///
    /// When the checkpoint does not contain the part, or the part refuses the state.
    pub fn restore(
        &self,
        state: &State,
        part: &mut dyn TrainedPart,
    ) -> Result<u64, CheckpointError> {
        read::restore(&self.place(state.step), state, part)
    }

    /// Writes a checkpoint. [`Self::prune`] removes those that are no longer needed.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Earlier checkpoints are not changed then.
    pub fn save(
        &mut self,
        parts: &[PartToSave<'_>],
        step: u64,
        state: impl FnOnce(u32, Vec<PartState>) -> State,
    ) -> Result<(), CheckpointError> {
        let name = format!("{PARTIAL}{}-{}", step_name(step), std::process::id());
        let partial = self.folder.join(name);
        let place = self.place(step);
        fs::create_dir(&partial).map_err(write_error(&partial))?;
        let written = write::fill(&partial, parts, |parts| state(VERSION, parts));
        let written = written.and_then(|state| {
            // A damaged checkpoint of the same step may exist.
            match fs::remove_dir_all(&place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(write_error(&place)(error));
                }
                _ => {}
            }
            fs::rename(&partial, &place).map_err(write_error(&place))?;
            write::sync_folder(&self.folder)?;
            Ok(state)
        });
        match written {
            Ok(state) => {
                self.saved.retain(|saved| saved.step < step);
                self.saved.push(Saved::new(&state));
                Ok(())
            }
            Err(error) => {
                // The next run removes a partial folder that cannot be removed here.
                let _ = fs::remove_dir_all(&partial);
                Err(error)
            }
        }
    }

    /// Returns the checkpoint that the run's registry should use: the one with the lowest loss on held-out
    /// examples, or the newest if there are no held-out examples.
    pub fn preferred(&self) -> Option<&Saved> {
        let best = self
            .saved
            .iter()
            .filter(|saved| saved.validation_loss.is_some());
        // The newest of equally good ones.
        let best = best.rev().min_by(|a, b| {
            let loss = |saved: &Saved| saved.validation_loss.unwrap_or(f64::INFINITY);
            loss(a).total_cmp(&loss(b))
        });
        best.or(self.saved.last())
    }

    /// Returns the file of a part's weights in a checkpoint.
    pub fn file(saved: &Saved, part: &str) -> SavedFile {
        let file = super::file_name(part, "");
        SavedFile {
            path: format!("{CHECKPOINTS}/{}/{file}", step_name(saved.step)),
            sha256: saved.digests.get(&file).cloned(),
        }
    }

    /// Removes checkpoints that are neither the best nor among the newest, those that are damaged or belong
    /// to a later step, and those that a killed run left incomplete.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read or changed.
    pub fn prune(&mut self) -> Result<(), CheckpointError> {
        let best = self.preferred().map(|saved| saved.step);
        let newest = self.saved.len().saturating_sub(self.keep);
        let kept: Vec<Saved> = self
            .saved
            .iter()
            .enumerate()
            .filter(|(at, saved)| *at >= newest || Some(saved.step) == best)
            .map(|(_, saved)| saved.clone())
            .collect();
        for entry in fs::read_dir(&self.folder).map_err(read_error(&self.folder))? {
            let entry = entry.map_err(read_error(&self.folder))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let step = step_of(&name);
            let unwanted = step.is_some_and(|step| kept.iter().all(|saved| saved.step != step));
            if unwanted || name.starts_with(PARTIAL) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(write_error(&path))?;
            }
        }
        self.saved = kept;
        Ok(())
    }

    fn place(&self, step: u64) -> PathBuf {
        self.folder.join(step_name(step))
    }
}

fn step_name(step: u64) -> String {
    format!("{PREFIX}{step:08}")
}

fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// Returns the steps of the checkpoints in a folder, in ascending order.
fn steps(folder: &Path) -> Result<Vec<u64>, CheckpointError> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_error(folder))? {
        let entry = entry.map_err(read_error(folder))?;
        let Some(step) = step_of(&entry.file_name().to_string_lossy()) else {
            continue;
        };
        if !entry.path().is_dir() {
            return Err(CheckpointError::NotACheckpoint(entry.path()));
        }
        steps.push(step);
    }
    steps.sort_unstable();
    Ok(steps)
}
