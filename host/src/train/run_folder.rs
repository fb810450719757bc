//! The folder of a run: `config.toml` (its settings), `base.toml` (the registry of the model it started from),
//! `metrics.jsonl`, `tensorboard/`, `checkpoints/`, and `registry.toml` (the registry of the trained model).
//! Only one process at a time may write it.

use super::{
    Settings, TrainError, TrainingStage,
    checkpoint::{CHECKPOINTS, Checkpoints, Saved, SavedFile},
    settings::rooted_path,
};
use crate::{
    disk::{
        checksum::{
            ChecksumState, Mismatch, check_toml, with_toml_checksum, without_toml_checksum,
        },
        whole_file,
        write_lock::{LOCK, WriteLock},
    },
    in_one_line,
    registry::{FILE_OF_A_RUN, Moved, MovedFile, Registry, Renamed, SearchPath, file_name, find},
};
use merv_checkpoint::text;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const CONFIG: &str = "config.toml";
const BASE: &str = "base.toml";
/// See [`super::metrics`].
pub(super) const METRICS: &str = "metrics.jsonl";
/// The folder of the TensorBoard events.
pub(super) const EVENTS: &str = "tensorboard";

/// The folder of a run, which this process has locked.
pub(super) struct RunFolder {
    path: PathBuf,
    _lock: WriteLock,
}

impl RunFolder {
    /// Starts a run in a folder that does not contain one.
    pub(super) fn create(path: &Path, settings: &Settings) -> Result<Self, TrainError> {
        check_free(path)?;
        let registry = Registry::load(&settings.registry)?;
        let text = read(&registry.path)?;
        fs::create_dir_all(path).map_err(|source| TrainError::Write {
            path: path.to_owned(),
            source,
        })?;
        let lock = lock(path)?;
        // Another process may have started a run in the meantime.
        check_free(path)?;
        whole_file::sweep_all(path);
        let run = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        run.write_sealed(BASE, &Moved::default().text(&text, &registry))?;
        run.write_sealed(CONFIG, &settings.to_toml())?;
        Ok(run)
    }

    /// Opens a run that is resumed with `settings`. Also returns the settings that the run recorded.
    pub(super) fn resume(path: &Path, settings: &Settings) -> Result<(Self, Settings), TrainError> {
        stage_of(path)?;
        let lock = lock(path)?;
        let recorded = recorded_if_resumable(path, settings)?;
        let run = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        Ok((run, recorded))
    }

    /// Records the settings of the resumed run.
    pub(super) fn record(&self, settings: &Settings) -> Result<(), TrainError> {
        let text = settings.to_toml();
        match without_toml_checksum(&read(&self.path.join(CONFIG))?) == text {
            true => Ok(()),
            false => self.write_sealed(CONFIG, &text),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the registry of the model that the run started from.
    pub(super) fn base(&self) -> PathBuf {
        self.path.join(BASE)
    }

    /// Writes the registry of the model in a checkpoint.
    pub(super) fn write_registry(
        &self,
        base: &Registry,
        saved: &Saved,
        settings: &Settings,
    ) -> Result<(), TrainError> {
        let stage = settings.stage;
        let encoders = stage.trains_encoders();
        let description = match &settings.description {
            Some(description) => description.clone(),
            None => format!("{} after {} steps of {stage}", base.id, saved.step),
        };
        let mixer = Checkpoints::file(saved, "mixer");
        let llm = stage.trains_llm().then(|| Checkpoints::file(saved, "llm"));
        let encoders: Vec<_> = base
            .encoders
            .iter()
            .filter(|_| encoders)
            .map(|entry| Checkpoints::file(saved, &encoder_part(&entry.id)))
            .collect();
        let moved = Moved {
            mixer: Some(moved(&mixer)),
            llm: llm.as_ref().map(moved),
            encoders: encoders.iter().map(|file| Some(moved(file))).collect(),
            renamed: Some(Renamed {
                id: settings.id.as_deref().unwrap_or(&base.id),
                description: &description,
            }),
            drop_notice: true,
        };
        let text = read(&base.path)?;
        self.write_sealed(FILE_OF_A_RUN, &moved.text(&text, base))
    }

    /// Returns what is wrong with the registry of the trained model, if it differs from what was written.
    pub(super) fn registry_fault(&self) -> Option<String> {
        let path = self.path.join(FILE_OF_A_RUN);
        match read_sealed(&path) {
            Ok(_) => None,
            Err(TrainError::Damaged { what, .. }) => Some(format!("{}: {what}", path.display())),
            Err(error) => Some(in_one_line(&error)),
        }
    }

    /// Writes a file with a checksum.
    fn write_sealed(&self, name: &str, text: &str) -> Result<(), TrainError> {
        self.write(name, &with_toml_checksum(text))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), TrainError> {
        let path = self.path.join(name);
        whole_file::write(&path, text.as_bytes())
            .map_err(|source| TrainError::Write { path, source })
    }
}

/// Checks that a folder contains neither a run with completed steps nor files of another origin. A run that failed
/// before its first step may be overwritten.
pub(super) fn check_free(path: &Path) -> Result<(), TrainError> {
    let unreadable = |source| TrainError::Read {
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        if whole_file::is_unfinished(&name.to_string_lossy()) {
            continue;
        }
        let name_of_a_run = [CONFIG, BASE, METRICS, EVENTS, CHECKPOINTS, LOCK]
            .contains(&name.to_string_lossy().as_ref());
        // A run writes `base.toml` first, so `config.toml` alone is a settings file of the user.
        let settings_file = name == CONFIG && !path.join(BASE).exists();
        if !name_of_a_run || settings_file {
            let run = path.join(CONFIG).exists() && path.join(BASE).exists();
            return Err(match run {
                true => TrainError::Occupied(path.to_owned()),
                false => TrainError::NotARun {
                    path: path.to_owned(),
                    unexpected: name.to_string_lossy().into_owned(),
                },
            });
        }
    }
    check_kinds(path)?;
    let begun = fs::metadata(path.join(METRICS)).is_ok_and(|about| about.len() > 0);
    if begun || Checkpoints::exist(path)? {
        return Err(TrainError::Occupied(path.to_owned()));
    }
    Ok(())
}

/// Checks that what a run would write as a file is not a folder, and the other way round.
fn check_kinds(run: &Path) -> Result<(), TrainError> {
    for (name, is_folder) in [(METRICS, false), (FILE_OF_A_RUN, false), (EVENTS, true)] {
        let path = run.join(name);
        if fs::metadata(&path).is_ok_and(|found| found.is_dir() != is_folder) {
            return Err(TrainError::WrongKind {
                path,
                expected: if is_folder { "a folder" } else { "a file" },
            });
        }
    }
    Ok(())
}

/// Checks that no other process has locked the folder.
pub(super) fn check_not_locked(path: &Path) -> Result<(), TrainError> {
    Ok(WriteLock::check_folder(path)?)
}

/// Checks that files can be created in the folder or, if it does not exist yet, that it can be created.
pub(super) fn check_writable(path: &Path) -> Result<(), TrainError> {
    let place = rooted_path(path);
    let there = place.ancestors().find(|folder| folder.exists());
    let made = there.map(tempfile::tempfile_in).transpose();
    made.map(drop).map_err(|source| TrainError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Returns the settings that the run in a folder recorded, overridden by a settings file and by `--set key=value`.
///
/// # Errors
///
/// When the folder does not contain a run, or the given settings are wrong.
pub fn settings_of_run(
    run: &Path,
    given: Option<&Path>,
    stage: Option<TrainingStage>,
    sets: &[String],
) -> Result<Settings, TrainError> {
    let recorded = stage_of(run)?;
    if let Some(stage) = stage.filter(|stage| *stage != recorded) {
        return Err(TrainError::OtherSettings {
            path: run.to_owned(),
            differences: vec![format!("the stage: `{recorded}`, now `{stage}`")],
        });
    }
    Ok(Settings::load_over(
        &run.join(CONFIG),
        given,
        recorded,
        sets,
    )?)
}

/// Checks that the run in a folder can be resumed with these settings, and sets their registry to the one that the
/// run started from.
///
/// # Errors
///
/// When it cannot.
pub(super) fn use_registry_of_run(settings: &mut Settings, run: &Path) -> Result<(), TrainError> {
    recorded_if_resumable(run, settings)?;
    settings.registry = run.join(BASE);
    Ok(())
}

/// Returns the stage of the run in a folder.
fn stage_of(run: &Path) -> Result<TrainingStage, TrainError> {
    let config = run.join(CONFIG);
    if !config.is_file() {
        return Err(TrainError::NothingToResume(run.to_owned()));
    }
    let text = read_sealed(&config)?;
    let has = |stage: &TrainingStage| text.lines().any(|line| line == format!("[{stage}]"));
    let stage = TrainingStage::ALL.into_iter().find(has);
    stage.ok_or(TrainError::NoSettings(config))
}

/// Returns the settings that the run in a folder recorded. Fails if it cannot be resumed with `settings`.
fn recorded_if_resumable(run: &Path, settings: &Settings) -> Result<Settings, TrainError> {
    let recorded = settings_of_run(run, None, None, &[])?;
    check_kinds(run)?;
    read_sealed(&run.join(BASE))?;
    // The registry is written after the first checkpoint.
    if !Checkpoints::exist(run)? && run.join(FILE_OF_A_RUN).exists() {
        return Err(TrainError::NoCheckpoint(run.join(CHECKPOINTS)));
    }
    let differences = recorded.fixed_differences(settings);
    if !differences.is_empty() {
        return Err(TrainError::OtherSettings {
            path: run.to_owned(),
            differences,
        });
    }
    Ok(recorded)
}

/// Returns the name of an encoder among the trained parts.
pub(super) fn encoder_part(id: &str) -> String {
    format!("encoder-{}", file_name(id))
}

/// Returns the registry file in the folder of an earlier run, or the registry with the name or path `from`.
pub(super) fn registry_of(from: &Path) -> Result<PathBuf, TrainError> {
    let of_a_run = from.join(FILE_OF_A_RUN);
    if of_a_run.is_file() {
        return Ok(of_a_run);
    }
    Ok(find(from, &SearchPath::from_env())?)
}

/// Returns a file of a checkpoint with its digest, so that a model that loads it can check that it is unchanged.
fn moved(file: &SavedFile) -> MovedFile<'_> {
    MovedFile {
        path: &file.path,
        sha256: file.sha256.as_deref(),
    }
}

fn lock(path: &Path) -> Result<WriteLock, TrainError> {
    Ok(WriteLock::folder(path, "train")?)
}

/// Reads a file of the run, and checks that it is what was written.
fn read_sealed(path: &Path) -> Result<String, TrainError> {
    let text = read(path)?;
    match check_toml(&text) {
        ChecksumState::Invalid => Err(TrainError::Damaged {
            path: path.to_owned(),
            what: Mismatch.to_string(),
        }),
        ChecksumState::Valid | ChecksumState::Absent => Ok(text),
    }
}

fn read(path: &Path) -> Result<String, TrainError> {
    text::read(path, u64::MAX).map_err(|source| TrainError::Read {
        path: path.to_owned(),
        source,
    })
}
