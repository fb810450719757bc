//! The folder that a conversion makes: beside its place until it is whole.

use super::ConvertError;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

/// A folder in the making. Removed when it is dropped before it is finished.
pub(super) struct Output {
    place: PathBuf,
    partial: PathBuf,
    finished: bool,
}

impl Output {
    /// Begins a folder that will be at `place`.
    pub fn begin(place: &Path, inputs: &[PathBuf], force: bool) -> Result<Self, ConvertError> {
        let occupied = |what: &str| ConvertError::Occupied {
            path: place.to_path_buf(),
            what: what.to_owned(),
        };
        let Some(name) = place.file_name() else {
            return Err(occupied(
                "is no name for a new folder; name another in --out",
            ));
        };
        match fs::symlink_metadata(place) {
            Ok(_) if !force => {
                return Err(occupied(
                    "is there already; name another folder in --out, or say --force to replace what an \
                     earlier conversion made",
                ));
            }
            Ok(metadata) if !metadata.is_dir() => {
                return Err(occupied("is no folder; name another in --out"));
            }
            Ok(_) => {
                let folder = place.canonicalize().map_err(ConvertError::write(place))?;
                let within = |input: &PathBuf| {
                    input
                        .canonicalize()
                        .is_ok_and(|input| input.starts_with(&folder))
                };
                if inputs.iter().any(within) {
                    return Err(occupied(
                        "holds the checkpoint itself; name another folder in --out",
                    ));
                }
                if let Some(stranger) = stranger(place).map_err(ConvertError::write(place))? {
                    return Err(occupied(&format!(
                        "holds `{}`, which no conversion made; name another folder in --out",
                        stranger.display()
                    )));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConvertError::write(place)(error)),
        }
        let mut partial = name.to_os_string();
        partial.push(format!(".{}.partial", process::id()));
        let partial = place.with_file_name(partial);
        fs::create_dir(&partial).map_err(ConvertError::write(&partial))?;
        Ok(Self {
            place: place.to_path_buf(),
            partial,
            finished: false,
        })
    }

    /// Where to write until it is finished.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Puts the folder in its place.
    pub fn finish(mut self) -> Result<(), ConvertError> {
        let failed = || ConvertError::write(&self.place);
        // The old folder goes aside first, and comes back if the new one cannot take its place.
        let mut aside = self.partial.clone().into_os_string();
        aside.push(".old");
        let aside = PathBuf::from(aside);
        let replaces = self.place.exists();
        if replaces {
            fs::rename(&self.place, &aside).map_err(failed())?;
        }
        if let Err(error) = fs::rename(&self.partial, &self.place) {
            if replaces {
                // The first error is the one to tell.
                let _ = fs::rename(&aside, &self.place);
            }
            return Err(failed()(error));
        }
        self.finished = true;
        if replaces {
            fs::remove_dir_all(&aside).map_err(ConvertError::write(&aside))?;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // The error that mattered was told; a partial folder that stays is a trifle.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Something in the folder that a conversion does not make.
fn stranger(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "llm" {
                return Ok(Some(path));
            }
            if let Some(stranger) = stranger(&path)? {
                return Ok(Some(stranger));
            }
        } else if !is_made(&name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_made(name: &str) -> bool {
    let weights = name == "mixer.safetensors"
        || (name.starts_with("model") && name.ends_with(".safetensors"));
    weights || name == "model.safetensors.index.json" || name == super::registry::FILE
}
