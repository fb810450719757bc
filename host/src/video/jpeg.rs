//! Reads a JPEG's segments before its pixels are decoded: whether it is complete, its orientation, and whether it
//! begins a stream of JPEGs.

use std::path::Path;

use super::error::VideoError;
use super::orientation::Orientation;

/// A complete JPEG.
pub(super) struct Jpeg {
    pub(super) orientation: Orientation,
    /// Whether another JPEG of the same size follows, as in motion JPEG.
    pub(super) is_stream: bool,
}

impl Jpeg {
    /// Reads the segments up to the end marker. Without this check, decoders fill missing parts with grey.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, VideoError> {
        let Some(segments) = Segments::walk(bytes) else {
            return Err(VideoError::Truncated {
                path: path.to_owned(),
                container: "JPEG".into(),
                expected: "an end marker".into(),
                found: format!("none in its {} bytes", bytes.len()),
                source: None,
            });
        };
        // Phones and cameras also append images (previews, gain maps), but list them.
        let is_stream = !segments.lists_others
            && bytes[segments.end..].starts_with(b"\xff\xd8\xff")
            && Segments::walk(&bytes[segments.end..])
                .is_some_and(|next| next.size == segments.size);
        Ok(Self {
            orientation: segments.orientation.unwrap_or_default(),
            is_stream,
        })
    }
}

/// The contents of the segments up to the end marker.
#[derive(Default)]
struct Segments {
    end: usize,
    /// Height and width, two bytes each.
    size: [u8; 4],
    orientation: Option<Orientation>,
    lists_others: bool,
}

impl Segments {
    fn walk(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut at = 2;
        loop {
            match next_marker(bytes, &mut at)? {
                // End of the image.
                0xd9 => {
                    found.end = at;
                    return Some(found);
                }
                // Markers without contents: TEM, restarts, a misplaced start of image.
                0x01 | 0xd0..=0xd8 => {}
                marker => {
                    let length: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
                    let end = at + usize::from(u16::from_be_bytes(length)).max(2);
                    let segment = bytes.get(at + 2..end)?;
                    match marker {
                        0xe1 if segment.starts_with(b"Exif\0\0") && found.orientation.is_none() => {
                            found.orientation = Some(Orientation::from_exif_block(segment));
                        }
                        0xe2 if segment.starts_with(b"MPF\0") => found.lists_others = true,
                        0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                            let size = segment.get(1..5).and_then(|size| size.try_into().ok());
                            found.size = size.unwrap_or(found.size);
                        }
                        _ => {}
                    }
                    at = end;
                }
            }
        }
    }
}

/// Returns the next marker at or after `at`, and advances `at`. Skips the coded pixels between markers.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)?;
        // Any number of fill bytes may precede a marker.
        *at += bytes[*at..].iter().position(|&byte| byte != 0xff)?;
        let marker = bytes[*at];
        *at += 1;
        // 0 is an escaped 0xff in the coded pixels.
        if marker != 0 {
            return Some(marker);
        }
    }
}
