//! Reads RGB frames from a file on disk.
//!
//! A file is a video in a container that FFmpeg supports (`decode`), an animation (`gif`, `png`, `webp`), a still image
//! (`images`) or a folder of images (`folder`). The first bytes determine the format, not the name. `sample` chooses
//! the frames. Only these are converted to RGB and kept.
//!
//! Files are untrusted: they are only opened as local files, and [`ReadLimits`] bounds the memory and work for each of
//! them in advance. For H.264, the pixels equal those of decord, PyAV and OpenCV byte for byte.

mod animation;
mod ffmpeg_log;
mod container;
mod counted;
mod damage;
mod decode;
mod error;
mod folder;
mod frames;
mod gif;
mod images;
mod index;
mod jpeg;
mod kind;
mod limits;
mod memory;
mod mp4;
mod orientation;
mod fill_check;
mod png;
mod reader;
mod rgb;
mod sample;
mod samples;
mod selection;
mod spool;
mod stream;
#[cfg(test)]
mod tests;
mod tiff;
mod timed;
mod webp;

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;

use kind::FileKind;
use spool::Spool;

use error::unreadable;

pub use error::VideoError;
pub use frames::{Frames, RgbFrame};
pub use limits::ReadLimits;
pub use sample::{evenly, frame_indices};
pub use selection::{Seconds, Selection};
pub use spool::is_standard_input;

/// Refuses inputs that cannot be read twice, such as pipes, sockets and devices, before reading from them.
///
/// # Errors
///
/// When `path` is neither a file nor a folder.
pub fn check_rereadable(path: &Path) -> Result<(), VideoError> {
    match std::fs::metadata(path) {
        Ok(about) if !about.is_file() && !about.is_dir() => Err(VideoError::ReadOnce {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Refuses inputs that cannot contain frames, as far as can be determined without decoding: missing files, empty files,
/// folders without images, and everything that [`check_rereadable`] refuses.
///
/// # Errors
///
/// The same errors as reading.
pub fn check_readable(path: &Path) -> Result<(), VideoError> {
    check_rereadable(path)?;
    let about = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    match about.is_dir() {
        true => folder::images_in(path, &ReadLimits::default()).map(drop),
        false => check_not_empty(path, &about),
    }
}

fn check_not_empty(path: &Path, about: &Metadata) -> Result<(), VideoError> {
    match about.len() {
        0 => Err(VideoError::EmptyFile {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Reads the chosen frames of a video, an animation, an image or a folder of images. `path` may be a pipe. `-` means
/// standard input.
///
/// # Errors
/// See [`VideoError`].
pub fn read(path: &Path, selection: &Selection, limits: &ReadLimits) -> Result<Frames, VideoError> {
    if selection.num_frames == 0 {
        return Err(VideoError::NoFramesRequested {
            path: path.to_owned(),
        });
    }
    if is_standard_input(path) {
        let file = Path::new(spool::STANDARD_INPUT);
        let about = fs::metadata(file).ok();
        if about.as_ref().is_some_and(Metadata::is_dir) {
            return Err(VideoError::FolderAsInput);
        }
        if let Some(about) = about.filter(Metadata::is_file) {
            return read_file(file, &about, selection, limits)
                .map_err(|error| error.with_path(path));
        }
        let spool = Spool::standard_input(path, limits)?;
        return read_spool(path, &spool, selection, limits);
    }
    let about = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    if about.is_dir() {
        return folder::read(path, selection, limits);
    }
    if is_pipe(&about) {
        let spool = Spool::pipe(path, limits)?;
        return read_spool(path, &spool, selection, limits);
    }
    if !about.is_file() {
        return Err(VideoError::NotAFile {
            path: path.to_owned(),
        });
    }
    read_file(path, &about, selection, limits)
}

/// Reads the copy of a pipe's data. Errors name the pipe.
fn read_spool(
    path: &Path,
    spool: &Spool,
    selection: &Selection,
    limits: &ReadLimits,
) -> Result<Frames, VideoError> {
    let copy = spool.path();
    fs::metadata(&copy)
        .map_err(|source| unreadable(&copy, source))
        .and_then(|about| read_file(&copy, &about, selection, limits))
        .map_err(|error| error.with_path(path))
}

#[cfg(unix)]
fn is_pipe(about: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    about.file_type().is_fifo()
}

#[cfg(not(unix))]
fn is_pipe(_: &Metadata) -> bool {
    false
}

fn read_file(
    path: &Path,
    about: &Metadata,
    selection: &Selection,
    limits: &ReadLimits,
) -> Result<Frames, VideoError> {
    check_not_empty(path, about)?;
    let mut head = Vec::with_capacity(kind::HEAD);
    File::open(path)
        .and_then(|file| file.take(kind::HEAD as u64).read_to_end(&mut head))
        .map_err(|source| unreadable(path, source))?;
    match kind::detect(path, &head) {
        FileKind::Gif => gif::read(path, selection, limits),
        FileKind::Image(_) => images::read(path, selection, limits),
        FileKind::OtherImage(name) => Err(VideoError::other_image(path, name)),
        FileKind::Video => decode::read(path, selection, limits),
    }
}
