//! What a TIFF's directories say: how many pictures it has, and whether the first is only a preview.

use std::path::Path;

use super::error::VideoError;

/// Directories that are looked at; each is a picture.
const MOST: usize = 64;

/// Refuses a file of several pictures, and a camera's raw, whose first picture is a preview.
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<(), VideoError> {
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
    for directory in 0..MOST {
        let Some(at) = next.filter(|&at| at > 0) else {
            break;
        };
        let Some(count) = number(at, counted) else {
            break;
        };
        let entries = at + counted;
        // The tag NewSubfileType: a number of 32 bits, whose lowest says that this is a preview.
        let is_preview = (0..count.min(1000)).any(|index| {
            let entry = entries + index * entry;
            let value = entry + if large { 12 } else { 8 };
            number(entry, 2) == Some(254) && number(value, 4).is_some_and(|kind| kind & 1 == 1)
        });
        if is_preview && directory == 0 {
            return Err(VideoError::other_image(path, "a camera's raw (TIFF)"));
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
