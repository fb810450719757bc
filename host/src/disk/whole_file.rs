//! Atomic writing of files: a partial file is written in the same folder and then renamed. If a process is
//! killed, its partial file is removed by the next process that writes the same file.

use crate::disk::{
    file_id::is_at,
    tensor_names::{self, TensorNameError},
};
use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// The ending of the names of partial files.
const PARTIAL: &str = ".partial";

/// The number of bytes of a file name that the names of partial and lock files begin with. It is short enough
/// that the ending still fits.
const MAX_STEM: usize = 180;

/// The maximum number of links in a row that are followed, the same as on Linux.
const MAX_LINKS: usize = 40;

/// Writes `bytes` to `path` and replaces the file that is there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(WholeFile::begin(path)?, bytes)
}

/// Does the same in a folder that [`sweep_all`] has cleaned, without listing the folder again.
pub(crate) fn write_unswept(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(WholeFile::begin_unswept(path)?, bytes)
}

fn write_all(mut file: WholeFile, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.finish()
}

/// A file that is being written. It is removed if it is dropped before it is finished.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    partial: PathBuf,
    /// Locked while it is written. An unlocked partial file counts as abandoned.
    file: File,
    finished: bool,
}

impl WholeFile {
    /// Starts the file that will be at `path`, and removes its abandoned partial files.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        if let Some(name) = path.file_name() {
            let prefix = format!("{}.", stem(name));
            sweep(folder_of(path), |name| {
                name.strip_prefix(&prefix).is_some_and(is_partial)
            });
        }
        Self::begin_unswept(path)
    }

    /// Does the same in a folder that [`sweep_all`] has cleaned.
    fn begin_unswept(path: &Path) -> io::Result<Self> {
        loop {
            let partial = partial(path);
            let file = match File::create_new(&partial) {
                // A process on another machine or in another container can have the same process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // On file systems without locks, partial files are never removed as abandoned.
            let _ = file.lock();
            // Before it was locked, another process may have removed it as abandoned.
            if is_at(&file, &partial) {
                return Ok(Self {
                    path: path.to_owned(),
                    partial,
                    file,
                    finished: false,
                });
            }
        }
    }

    /// Renames the file to its final name. The content is flushed to the disk first, so even a power failure
    /// does not leave half a file.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.finished = true;
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.finished {
            // The error that matters was reported. The next writer removes the file if this fails.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Returns the advice for a file that cannot be written.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free space on the disk, or choose a path on another disk"
        }
        ErrorKind::FileTooLarge => {
            "raise the limit on file sizes (`ulimit -f`), or choose another disk"
        }
        ErrorKind::InvalidFilename => "choose a shorter name",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "choose a writable path, or change the permissions"
        }
        ErrorKind::NotFound => "create the folder, or correct the path",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            "choose another path: something else is there"
        }
        _ if error
            .get_ref()
            .is_some_and(|inner| inner.is::<TensorNameError>()) =>
        {
            tensor_names::ADVICE
        }
        _ if is_too_many_links(error) => "give the path of the file itself instead of a link to it",
        _ => "check the disk, or choose another path",
    }
}

/// Returns the advice for a file or folder that cannot be read.
pub(crate) fn reading_advice(error: &io::Error) -> &'static str {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidFilename => "correct the path: a name in it is too long",
        ErrorKind::NotFound => "correct the path: it does not exist",
        ErrorKind::NotADirectory => "correct the path: a part of it is not a folder",
        ErrorKind::IsADirectory => "give the path of a file: this is a folder",
        _ => "check its permissions and the disk",
    }
}

/// Follows a link to its target, even if the target does not exist. Returns any other path unchanged.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut place = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&place) {
            Ok(target) => place = folder_of(&place).join(target),
            Err(_) => break,
        }
    }
    place
}

/// Returns where a file that is named `path` may be written. A link is followed: what it points to is replaced.
///
/// # Errors
///
/// When something is there that is not a plain file, such as a folder, a device or a pipe.
pub(crate) fn place(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => path.canonicalize(),
        Ok(_) => {
            let why = "it exists and is not a regular file";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(followed(path)),
        Err(error) => Err(error),
    }
}

/// Returns whether a file could not be opened because it is a link.
fn is_too_many_links(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    #[cfg(not(unix))]
    let is = error.kind() == ErrorKind::InvalidInput;
    is
}

/// Flushes the names in a folder to the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some systems cannot open or sync folders. There, syncing the files is enough.
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Removes all abandoned partial files in a folder.
pub(crate) fn sweep_all(folder: &Path) {
    sweep(folder, is_unfinished);
}

/// Returns whether a file with this name is a partial file.
pub(crate) fn is_unfinished(name: &str) -> bool {
    let ending = name.strip_suffix(PARTIAL).and_then(|rest| rest.rfind('.'));
    ending.is_some_and(|dot| is_partial(&name[dot + 1..]))
}

/// Removes abandoned partial files: those without a lock, since a lock ends with its process. Errors are
/// ignored, because they do not prevent writing.
fn sweep(folder: &Path, wanted: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(&wanted)
            || !entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            continue;
        }
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
            && is_at(&file, &entry.path())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns whether this is the ending that [`partial`] appends to a name and a dot. Earlier versions wrote it
/// without the count.
pub(crate) fn is_partial(ending: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ending.strip_suffix(PARTIAL).is_some_and(|numbers| {
        let (process, count) = numbers.split_once('-').unwrap_or((numbers, "0"));
        is_number(process) && is_number(count)
    })
}

/// Returns a path in the same folder that no other process or thread uses.
pub(crate) fn partial(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = stem(path.file_name().unwrap_or_default());
    path.with_file_name(format!("{name}.{}-{count}{PARTIAL}", process::id()))
}

/// Returns the start of the names of the partial files and lock files for a file name.
pub(crate) fn stem(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let mut end = name.len().min(MAX_STEM);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// Returns the folder that contains a path.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes opening fail if the file is a link. Otherwise text could be appended to a file that the user did not
/// choose.
pub(crate) fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_plain_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::os::unix::fs::symlink("file", &link).unwrap();
        // The file is not there yet.
        assert_eq!(place(&link).unwrap(), file);
        fs::write(&file, "").unwrap();
        assert_eq!(place(&link).unwrap(), file.canonicalize().unwrap());
        let (reader, writer) = io::pipe().unwrap();
        let pipe = {
            use std::os::fd::AsRawFd;
            PathBuf::from(format!("/dev/fd/{}", writer.as_raw_fd()))
        };
        for other in [Path::new("/dev/null"), folder.path(), &pipe] {
            let error = place(other).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{other:?}");
            assert!(
                advice(&error).contains("something else"),
                "{}",
                advice(&error)
            );
        }
        drop(reader);
    }

    #[test]
    fn a_file_is_replaced_and_no_partial_file_remains() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("none/a.json"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_to_a_target_that_does_not_exist() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("b", at("a")).unwrap();
        symlink(at("c"), at("b")).unwrap();
        symlink("loop", at("loop")).unwrap();
        assert_eq!(followed(&at("a")), at("c"));
        assert_eq!(followed(&at("c")), at("c"));
        assert_eq!(followed(&at("loop")), at("loop"));
    }

    #[test]
    fn only_abandoned_partial_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "a.json.12-0.partial",
            "a.json.13-7.partial",
            "a.json.14.partial",
        ] {
            fs::write(at(name), "half").unwrap();
        }
        let others = [
            "a.json",
            "a.json.12-x.partial",
            "a.json.bak",
            "b.json.12-0.partial",
        ];
        for name in others {
            fs::write(at(name), "whole").unwrap();
        }
        let writing = File::open(at("a.json.13-7.partial")).unwrap();
        writing.lock().unwrap();
        write(&at("a.json"), b"new").unwrap();
        assert!(!at("a.json.12-0.partial").exists());
        assert!(!at("a.json.14.partial").exists());
        for name in others.iter().chain(&["a.json.13-7.partial"]) {
            assert!(at(name).exists(), "{name}");
        }
        drop(writing);
        write(&at("a.json"), b"newer").unwrap();
        assert!(!at("a.json.13-7.partial").exists());
    }

    #[test]
    fn many_writers_of_one_file_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        write(path, &[writer; 1000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 1000 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_of_the_maximum_length_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("é".repeat(127));
        let half = partial(&long);
        fs::write(&half, "half").unwrap();
        write(&long, b"whole").unwrap();
        assert_eq!(fs::read(&long).unwrap(), b"whole");
        assert!(!half.exists());
        let longer = folder.path().join("a".repeat(300));
        let error = write(&longer, b"x").unwrap_err();
        assert_eq!(advice(&error), "choose a shorter name");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn all_abandoned_partial_files_of_a_folder_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.mp4.1-0.partial", "b.partial", "c.1-0", "d.mp4"] {
            fs::write(at(name), "").unwrap();
        }
        let writing = WholeFile::begin(&at("e")).unwrap();
        sweep_all(folder.path());
        assert!(!at("a.mp4.1-0.partial").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
        writing.finish().unwrap();
        assert!(at("e").exists());
    }
}
