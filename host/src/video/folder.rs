//! Reads folders of images as videos.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::VideoError;
use super::limits::ReadLimits;
use super::{Frames, RgbFrame, Selection, images, sample, unreadable};

/// File extensions of frames in a folder.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// File extensions of images that cannot be read as frames. Skipping them would shift the other frames in time.
const OTHERS: [&str; 11] = [
    "avif", "heic", "heif", "jp2", "jxl", "pbm", "pgm", "pnm", "ppm", "exr", "qoi",
];

/// Reads the images of a folder as the frames of a video. Numbers in the names are compared by value, so 9 comes
/// before 10. For numbers with equally many digits, this is alphabetical order.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    limits: &ReadLimits,
) -> Result<Frames, VideoError> {
    let images = images_in(path, limits)?;
    let n = images.len();
    let over_all = selection.end_frame.is_some_and(|frame| frame >= 0);
    let indices = match selection.folder_fps {
        Some(fps) if !(fps.is_finite() && fps > 0.0) => {
            return Err(VideoError::BadFolderRate {
                path: path.to_owned(),
                fps,
            });
        }
        Some(fps) => sample::frame_indices(path, n, fps, selection)?,
        None if over_all => sample::frame_indices(path, n, 1.0, selection)?,
        None if selection.has_window() => {
            return Err(VideoError::NoFolderRate {
                path: path.to_owned(),
            });
        }
        None => sample::evenly(n, selection.num_frames),
    };

    let mut decoded: BTreeMap<usize, Arc<RgbFrame>> = BTreeMap::new();
    let mut bytes = 0;
    let mut frames = Vec::with_capacity(indices.len());
    for &index in &indices {
        let frame = match decoded.get(&index) {
            Some(frame) => frame.clone(),
            None => {
                let frame = Arc::new(images::read_frame(&images[index], bytes, limits)?);
                bytes += frame.data.len() as u128;
                decoded.insert(index, frame.clone());
                frame
            }
        };
        frames.push(frame);
    }
    let fps = selection.folder_fps.unwrap_or(0.0);
    let rate = selection.folder_fps.unwrap_or(f64::NAN);
    Ok(Frames {
        frames,
        seconds: indices.iter().map(|&index| index as f64 / rate).collect(),
        indices,
        total_frames: n,
        fps,
    })
}

/// Returns the files of the frames in order, at least one.
pub(super) fn images_in(path: &Path, limits: &ReadLimits) -> Result<Vec<PathBuf>, VideoError> {
    let mut images = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| unreadable(path, source))? {
        let file = entry.map_err(|source| unreadable(path, source))?.path();
        let ends_like = |known: &[&str]| {
            file.extension()
                .is_some_and(|end| known.iter().any(|known| end.eq_ignore_ascii_case(known)))
        };
        let (is_image, is_other) = (ends_like(&EXTENSIONS), ends_like(&OTHERS));
        if is_hidden(&file) || !is_image && !is_other {
            continue;
        }
        let about = fs::metadata(&file).map_err(|source| unreadable(&file, source))?;
        if !about.is_file() {
            return Err(VideoError::NotAnImage { path: file });
        }
        if is_other {
            return Err(VideoError::OtherFrame { path: file });
        }
        limits.check_frames(path, images.len() as u64 + 1)?;
        images.push(file);
    }
    if images.is_empty() {
        let extensions = EXTENSIONS.map(|end| format!(".{end}")).join(", ");
        return Err(VideoError::EmptyFolder {
            path: path.to_owned(),
            extensions,
        });
    }
    images.sort_by(|a, b| natural(name(a), name(b)));
    Ok(images)
}

fn name(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_encoded_bytes()
}

/// For example `._frame.png`, which macOS creates for each file on other file systems.
fn is_hidden(path: &Path) -> bool {
    name(path).starts_with(b".")
}

/// Compares digits by their number, and everything else byte by byte.
fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        match (left.split_first(), right.split_first()) {
            (None, _) | (_, None) => break,
            (Some((x, _)), Some((y, _))) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (first, second) = (digits(&mut left), digits(&mut right));
                let order = first.len().cmp(&second.len()).then(first.cmp(second));
                if order.is_ne() {
                    return order;
                }
            }
            (Some((x, after_x)), Some((y, after_y))) => {
                if x != y {
                    return x.cmp(y);
                }
                (left, right) = (after_x, after_y);
            }
        }
    }
    // Equal numbers with different text, such as "1" and "01".
    left.len().cmp(&right.len()).then(a.cmp(b))
}

/// Takes the number at the start of `text`, without leading zeros.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    let zeros = number.iter().take_while(|&&digit| digit == b'0').count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_by_value() {
        let mut names = [
            "b.png",
            "a10.png",
            "a2.png",
            "a02.png",
            "a1.png",
            "a.png",
            "a1b2.png",
            "a1b10.png",
            "00000000000000000000000000000000000003.png",
            "2.png",
            "10.png",
        ];
        names.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()));
        let expected = [
            "2.png",
            "00000000000000000000000000000000000003.png",
            "10.png",
            "a.png",
            "a1.png",
            "a1b2.png",
            "a1b10.png",
            "a02.png",
            "a2.png",
            "a10.png",
            "b.png",
        ];
        assert_eq!(names, expected);
        let mut padded: Vec<String> = (0..200).map(|n| format!("frame_{n:05}.jpg")).collect();
        let by_name = padded.clone();
        padded.reverse();
        padded.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()));
        assert_eq!(padded, by_name);
    }
}
