//! The folder that a conversion makes: beside its place until it is whole. One conversion at a time makes it.

use super::ConvertError;
use crate::disk::{hold::Hold, whole_file};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What follows the name of a partial folder while the folder that it replaces is set aside.
const ASIDE: &str = ".old";

/// A folder in the making. Removed when it is dropped before it is finished.
pub(super) struct Output {
    place: PathBuf,
    partial: PathBuf,
    /// Whether something was there that is replaced.
    replaces: bool,
    finished: bool,
    _hold: Hold,
}

impl Output {
    /// Begins a folder that will be at `place`.
    pub fn begin(place: &Path, inputs: &[PathBuf], force: bool) -> Result<Self, ConvertError> {
        // A link is followed: what it leads to is made.
        let place = &whole_file::followed(place);
        let occupied = |what: &str| ConvertError::Occupied {
            path: place.to_path_buf(),
            what: what.to_owned(),
        };
        let Some(name) = place.file_name() else {
            return Err(occupied(
                "is not a name for a new folder; name another in --out",
            ));
        };
        let hold = Hold::beside(place, "convert")?;
        // A training run, say, holds the folder itself.
        Hold::check_folder(place)?;
        clear_up(place, &name.to_string_lossy()).map_err(ConvertError::write(place))?;
        match fs::symlink_metadata(place) {
            Ok(_) if !force => {
                return Err(occupied(
                    "is there already; name another folder in --out, or say --force to replace what an \
                     earlier conversion made",
                ));
            }
            Ok(metadata) if !metadata.is_dir() => {
                return Err(occupied("is not a folder; name another in --out"));
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
                if let Some(foreign) = foreign(place).map_err(ConvertError::write(place))? {
                    return Err(occupied(&format!(
                        "holds `{}`, which no conversion made; name another folder in --out",
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
            _hold: hold,
        })
    }

    /// Where to write until it is finished.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Puts the folder in its place.
    pub fn finish(mut self) -> Result<(), ConvertError> {
        let failed = || ConvertError::write(&self.place);
        let replaced = if !self.replaces {
            // Nor does it replace what has come there meanwhile.
            fs::rename(&self.partial, &self.place).map_err(failed())?;
            None
        } else if exchange(&self.partial, &self.place).is_ok() {
            Some(self.partial.clone())
        } else {
            // The old folder goes aside first, and comes back if the new one cannot take its place. A kill in
            // between leaves it aside; the next conversion puts it back.
            let mut aside = self.partial.clone().into_os_string();
            aside.push(ASIDE);
            let aside = PathBuf::from(aside);
            fs::rename(&self.place, &aside).map_err(failed())?;
            if let Err(error) = fs::rename(&self.partial, &self.place) {
                // The first error is the one to tell.
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

/// Two folders change places in one step, where the system can do that.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes what killed conversions have left beside `place`, called `name`; the hold says that none of them
/// runs. A folder that one had set aside and not yet replaced returns to its place.
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
            // The error that mattered was told; the next conversion removes what stays.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Something in the folder that a conversion does not make.
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

    fn made(folder: &Path, text: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("mixer.safetensors"), text).unwrap();
    }

    #[test]
    fn two_conversions_do_not_make_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        let first = Output::begin(&place, &[], true).unwrap();
        let second = Output::begin(&place, &[], true).map(|_| ());
        let error = second.unwrap_err().to_string();
        assert!(error.contains("is in use by process"), "{error}");
        made(first.folder(), "one");
        first.finish().unwrap();
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_folder_that_something_else_holds_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        fs::create_dir(&place).unwrap();
        let _held = Hold::folder(&place, "train").unwrap();
        for force in [false, true] {
            let error = Output::begin(&place, &[], force).map(|_| ()).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("is in use by process"), "{error}");
        }
    }

    #[test]
    fn what_comes_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        let output = Output::begin(&place, &[], false).unwrap();
        made(output.folder(), "new");
        made(&place, "another's");
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
            made(output.folder(), text);
            output.finish().unwrap();
            let found = fs::read_to_string(place.join("mixer.safetensors")).unwrap();
            assert_eq!(found, text);
        }
        assert!(link.is_symlink());
        assert_eq!(names(folder.path()), ["link", "out"]);
    }

    #[test]
    fn what_killed_conversions_left_is_removed_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let place = at("out");
        // One was killed while it wrote, one of an earlier version between the two steps of its swap.
        made(&at("out.7-0.partial"), "half");
        made(&at("out.8.partial"), "half");
        made(&at("out.8.partial.old"), "old");
        made(&at("out.backup"), "a person's own");
        made(&at("outer.7-0.partial"), "another's");
        drop(Output::begin(&place, &[], true).unwrap());
        assert_eq!(
            names(folder.path()),
            ["out", "out.backup", "outer.7-0.partial"]
        );
        let text = || fs::read_to_string(place.join("mixer.safetensors")).unwrap();
        assert_eq!(text(), "old");

        let output = Output::begin(&place, &[], true).unwrap();
        made(output.folder(), "new");
        output.finish().unwrap();
        assert_eq!(text(), "new");
        assert_eq!(
            names(folder.path()),
            ["out", "out.backup", "outer.7-0.partial"]
        );
    }
}
