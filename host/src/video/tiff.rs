//! Reads a TIFF's directories: how many images it contains, and whether the first is only a preview.

use std::path::Path;

use super::error::VideoError;
use super::limits::ReadLimits;

/// Maximum number of directories to read. Each describes an image.
const MAX_DIRECTORIES: usize = 64;

/// Tags of a directory: NewSubfileType, ImageWidth and ImageLength.
const SUBFILE: usize = 254;
const WIDTH: usize = 256;
const HEIGHT: usize = 257;

/// Refuses files with several images, and raw camera files, whose first image is a preview.
pub(super) fn check(path: &Path, bytes: &[u8], limits: &ReadLimits) -> Result<(), VideoError> {
    let little = bytes.starts_with(b"II");
    let large = bytes.get(if little { 2 } else { 3 }) == Some(&0x2b);
    let number = |at: usize, len: usize| {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let push = |number: usize, byte: &u8| number << 8 | usize::from(*byte);
        Some(match little {
            true => bytes.iter().rev().fold(0, push),
            false => bytes.iter().fold(0, push),
        })
    };
    let (offset, counted, entry) = if large { (8, 8, 20) } else { (4, 2, 12) };
    let mut next = number(if large { 8 } else { 4 }, offset);
    let mut pages = 0;
    for directory in 0..MAX_DIRECTORIES {
        let Some(at) = next.filter(|&at| at > 0) else {
            break;
        };
        let Some(count) = number(at, counted) else {
            break;
        };
        let entries = at + counted;
        let tag = |tag: usize| {
            let mut all = (0..count.min(1000)).map(|index| entries + index * entry);
            let found = all.find(|&entry| number(entry, 2) == Some(tag))?;
            // A 16-bit number is at the beginning of the value field. A 32-bit number fills it.
            let len = if number(found + 2, 2) == Some(3) {
                2
            } else {
                4
            };
            number(found + if large { 12 } else { 8 }, len)
        };
        if let (0, Some(width), Some(height)) = (directory, tag(WIDTH), tag(HEIGHT)) {
            limits.check_size(path, width as u64, height as u64)?;
        }
        // The lowest bit marks a preview.
        let is_preview = tag(SUBFILE).is_some_and(|kind| kind & 1 == 1);
        if is_preview && directory == 0 {
            return Err(VideoError::other_image(path, "a raw camera (TIFF)"));
        }
        pages += usize::from(!is_preview);
        next = count
            .checked_mul(entry)
            .and_then(|len| number(entries.checked_add(len)?, offset));
    }
    if pages > 1 {
        return Err(VideoError::ManyPages {
            path: path.to_owned(),
        });
    }
    Ok(())
}
