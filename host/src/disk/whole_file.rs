//! Files that are there whole or not at all: written beside their place, then renamed. What processes that
//! were killed have left there is taken away by the next one that writes the same file.

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

/// How the name of what is being written ends.
const PARTIAL: &str = ".partial";

/// Bytes of a name that the names beside it begin with: with an ending they are still names.
const MAX_STEM: usize = 180;

/// Links in a row that are followed, as Linux does.
const MAX_LINKS: usize = 40;

/// Writes `bytes` to `path`, in place of what is there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(WholeFile::begin(path)?, bytes)
}

/// The same in a folder that [`sweep_all`] has swept, which is not listed again for every file.
pub(crate) fn write_unswept(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(WholeFile::begin_unswept(path)?, bytes)
}

fn write_all(mut file: WholeFile, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.finish()
}

/// A file in the making; removed when it is dropped before it is finished.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    partial: PathBuf,
    /// Locked as long as it is written, so that nobody takes it for what a killed process left.
    file: File,
    finished: bool,
}

impl WholeFile {
    /// Begins the file that will be at `path`, and takes away what killed processes have left of it.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        if let Some(name) = path.file_name() {
            let prefix = format!("{}.", stem(name));
            sweep(folder_of(path), |name| {
                name.strip_prefix(&prefix).is_some_and(is_partial)
            });
        }
        Self::begin_unswept(path)
    }

    /// The same in a folder that [`sweep_all`] has swept.
    fn begin_unswept(path: &Path) -> io::Result<Self> {
        loop {
            let partial = partial(path);
            let file = match File::create_new(&partial) {
                // Processes of other machines and containers may have this one's number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // Where files cannot be locked, none is swept either.
            let _ = file.lock();
            // Before it was locked, it looked abandoned.
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

    /// Puts the file in its place. It is on the disk before its name is, so that not even a power failure
    /// leaves half of it.
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
            // The error that mattered was told; the next writer takes away what stays.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// What a person can do about a file that cannot be written.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room on the disk, or name a place on another one"
        }
        ErrorKind::FileTooLarge => {
            "raise the limit on file sizes (`ulimit -f`), or name another disk"
        }
        ErrorKind::InvalidFilename => "choose a shorter name",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "name a place that you may write to, or change its permissions"
        }
        ErrorKind::NotFound => "make the folder that it should be in, or correct the path",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            "name another place: something else is there"
        }
        _ if error
            .get_ref()
            .is_some_and(|inner| inner.is::<TensorNameError>()) =>
        {
            tensor_names::ADVICE
        }
        _ if is_too_many_links(error) => "name the file itself in place of a link to it",
        _ => "check the disk, or name another place",
    }
}

/// What a person can do about a file or folder that cannot be read.
pub(crate) fn reading_advice(error: &io::Error) -> &'static str {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidFilename => "correct the path: a name in it is too long",
        ErrorKind::NotFound => "correct the path: nothing is there",
        ErrorKind::NotADirectory => "correct the path: a part of it is no folder",
        ErrorKind::IsADirectory => "name a file: this is a folder",
        _ => "check its permissions and the disk",
    }
}

/// Where a link leads, also one to something that is not there yet; any other path as it is.
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

/// Whether a link was met where links are not followed.
fn is_too_many_links(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    #[cfg(not(unix))]
    let is = error.kind() == ErrorKind::InvalidInput;
    is
}

/// Has the names in a folder on the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some systems cannot open folders, or sync them; there the names are safe when the files are.
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

/// Removes the partial files in a folder that nobody writes any more, whatever they belong to.
pub(crate) fn sweep_all(folder: &Path) {
    sweep(folder, is_unfinished);
}

/// Whether a file of this name is one in the making, or what a killed process left of it.
pub(crate) fn is_unfinished(name: &str) -> bool {
    let ending = name.strip_suffix(PARTIAL).and_then(|rest| rest.rfind('.'));
    ending.is_some_and(|dot| is_partial(&name[dot + 1..]))
}

/// Removes partial files that nobody writes any more: a lock ends with its process. What cannot be removed is
/// no reason not to write.
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

/// Whether this is what [`partial`] puts behind a name and a dot, or what earlier versions did, without the
/// count.
pub(crate) fn is_partial(ending: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ending.strip_suffix(PARTIAL).is_some_and(|numbers| {
        let (process, count) = numbers.split_once('-').unwrap_or((numbers, "0"));
        is_number(process) && is_number(count)
    })
}

/// A name beside `path` that no other process and no other thread uses.
pub(crate) fn partial(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = stem(path.file_name().unwrap_or_default());
    path.with_file_name(format!("{name}.{}-{count}{PARTIAL}", process::id()))
}

/// What the names of files beside one of this name begin with.
pub(crate) fn stem(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let mut end = name.len().min(MAX_STEM);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Opens a file only if it is not a link: text added to it would go to a place that nobody named.
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

    #[test]
    fn it_replaces_and_leaves_nothing_beside() {
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
    fn links_are_followed_to_what_is_not_there_yet() {
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
    fn what_a_killed_process_left_is_taken_away_and_nothing_else() {
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
    fn a_name_may_be_as_long_as_names_can_be() {
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
    fn a_folder_is_swept_of_what_nobody_writes() {
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
