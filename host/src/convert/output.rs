//! The output folder of a conversion. It is written under a temporary name until it is complete. Only one
//! conversion at a time can write it.

use super::ConvertError;
use crate::disk::{whole_file, write_lock::WriteLock};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The suffix of a folder that is set aside while it is replaced.
const ASIDE: &str = ".old";

/// An unfinished output folder. It is removed if it is dropped before it is finished.
pub(super) struct Output {
    place: PathBuf,
    partial: PathBuf,
    /// Whether it replaces an existing folder.
    replaces: bool,
    finished: bool,
    _lock: WriteLock,
}

impl Output {
    /// Starts a folder that will replace `place`.
    pub fn begin(place: &Path, inputs: &[PathBuf], force: bool) -> Result<Self, ConvertError> {
        // A symbolic link is followed, and its target is written.
        let place = &whole_file::followed(place);
        let occupied = |what: &str| ConvertError::Occupied {
            path: place.to_path_buf(),
            what: what.to_owned(),
        };
        let Some(name) = place.file_name() else {
            return Err(occupied(
                "is not a name for a new folder; set --out to another one",
            ));
        };
        let lock = WriteLock::beside(place, "convert")?;
        // Another command, such as a training run, locks the folder itself.
        WriteLock::check_folder(place)?;
        clear_up(place, &name.to_string_lossy()).map_err(ConvertError::write(place))?;
        match fs::symlink_metadata(place) {
            Ok(_) if !force => {
                return Err(occupied(
                    "already exists; set --out to another folder, or use --force to replace the output of an \
                     earlier conversion",
                ));
            }
            Ok(metadata) if !metadata.is_dir() => {
                return Err(occupied("is not a folder; set --out to another path"));
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
                        "contains the checkpoint itself; set --out to another folder",
                    ));
                }
                if let Some(foreign) = foreign(place).map_err(ConvertError::write(place))? {
                    return Err(occupied(&format!(
                        "contains `{}`, which is not the output of a conversion; set --out to another folder",
                        foreign.display()
                    )));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConvertError::write(place)(error)),
        }
        let partial = whole_file::partial(place);
        fs::create_dir(&partial).map_err(ConvertError::write(&partial))?;
        Ok(Self {
            place: place.to_path_buf(),
            partial,
            replaces: place.exists(),
            finished: false,
            _lock: lock,
        })
    }

    /// Returns the folder to write to until it is finished.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Moves the folder to its final path.
    pub fn finish(mut self) -> Result<(), ConvertError> {
        let failed = || ConvertError::write(&self.place);
        let replaced = if !self.replaces {
            // This fails if the path has been created in the meantime.
            fs::rename(&self.partial, &self.place).map_err(failed())?;
            None
        } else if exchange(&self.partial, &self.place).is_ok() {
            Some(self.partial.clone())
        } else {
            // The old folder is set aside first, and restored if the new one cannot be renamed. If the process is
            // killed in between, the next conversion restores it.
            let mut aside = self.partial.clone().into_os_string();
            aside.push(ASIDE);
            let aside = PathBuf::from(aside);
            fs::rename(&self.place, &aside).map_err(failed())?;
            if let Err(error) = fs::rename(&self.partial, &self.place) {
                // The first error is the one to report.
                let _ = fs::rename(&aside, &self.place);
                return Err(failed()(error));
            }
            Some(aside)
        };
        self.finished = true;
        match replaced {
            Some(old) => fs::remove_dir_all(&old).map_err(ConvertError::write(&old)),
            None => Ok(()),
        }
    }
}

/// Exchanges two folders atomically, if the system supports it.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes the leftovers of killed conversions next to `place`, whose file name is `name`. The caller holds the lock,
/// so none of them is running. A folder that was set aside and not yet replaced is restored.
fn clear_up(place: &Path, name: &str) -> io::Result<()> {
    let entries = match fs::read_dir(whole_file::folder_of(place)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let found = entry.file_name();
        let found = found.to_string_lossy();
        let Some(ending) = found
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'))
        else {
            continue;
        };
        let (ending, is_aside) = match ending.strip_suffix(ASIDE) {
            Some(ending) => (ending, true),
            None => (ending, false),
        };
        if !whole_file::is_partial(ending) || !entry.file_type()?.is_dir() {
            continue;
        }
        if is_aside && !place.exists() {
            fs::rename(entry.path(), place)?;
        } else {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // The relevant error was reported; the next conversion removes the leftovers.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Returns a path in the folder that is not the output of a conversion, if any.
fn foreign(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "llm" {
                return Ok(Some(path));
            }
            if let Some(foreign) = foreign(&path)? {
                return Ok(Some(foreign));
            }
        } else if !is_output(&name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_output(name: &str) -> bool {
    let weights = name == "mixer.safetensors"
        || (name.starts_with("model") && name.ends_with(".safetensors"));
    weights || name == "model.safetensors.index.json" || name == super::registry::FILE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn write_output(folder: &Path, text: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("mixer.safetensors"), text).unwrap();
    }

    #[test]
    fn two_conversions_cannot_write_the_same_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        let first = Output::begin(&place, &[], true).unwrap();
        let second = Output::begin(&place, &[], true).map(|_| ());
        let error = second.unwrap_err().to_string();
        assert!(error.contains("is in use by process"), "{error}");
        write_output(first.folder(), "one");
        first.finish().unwrap();
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_folder_in_use_by_another_command_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        fs::create_dir(&place).unwrap();
        let _held = WriteLock::folder(&place, "train").unwrap();
        for force in [false, true] {
            let error = Output::begin(&place, &[], force).map(|_| ()).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("is in use by process"), "{error}");
        }
    }

    #[test]
    fn a_folder_that_was_created_in_the_meantime_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        let output = Output::begin(&place, &[], false).unwrap();
        write_output(output.folder(), "new");
        write_output(&place, "another's");
        assert!(output.finish().is_err());
        let text = fs::read_to_string(place.join("mixer.safetensors")).unwrap();
        assert_eq!(text, "another's");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (link, place) = (folder.path().join("link"), folder.path().join("out"));
        std::os::unix::fs::symlink("out", &link).unwrap();
        for (text, force) in [("one", false), ("two", true)] {
            let output = Output::begin(&link, &[], force).unwrap();
            write_output(output.folder(), text);
            output.finish().unwrap();
            let found = fs::read_to_string(place.join("mixer.safetensors")).unwrap();
            assert_eq!(found, text);
        }
        assert!(link.is_symlink());
        assert_eq!(names(folder.path()), ["link", "out"]);
    }

    #[test]
    fn leftovers_of_killed_conversions_are_removed_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let place = at("out");
        // One conversion was killed while writing, another, of an earlier version, between the two steps of the
        // replacement.
        write_output(&at("out.7-0.partial"), "half");
        write_output(&at("out.8.partial"), "half");
        write_output(&at("out.8.partial.old"), "old");
        write_output(&at("out.backup"), "a person's own");
        write_output(&at("outer.7-0.partial"), "another's");
        drop(Output::begin(&place, &[], true).unwrap());
        assert_eq!(
            names(folder.path()),
            ["out", "out.backup", "outer.7-0.partial"]
        );
        let text = || fs::read_to_string(place.join("mixer.safetensors")).unwrap();
        assert_eq!(text(), "old");

        let output = Output::begin(&place, &[], true).unwrap();
        write_output(output.folder(), "new");
        output.finish().unwrap();
        assert_eq!(text(), "new");
        assert_eq!(
            names(folder.path()),
            ["out", "out.backup", "outer.7-0.partial"]
        );
    }
}
