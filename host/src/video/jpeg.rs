//! What a JPEG says before its pixels are decoded: whether it is whole, how it is turned, and whether
//! it is the first of many.

use std::path::Path;

use super::error::VideoError;
use super::orientation::Orientation;

/// A JPEG of which all segments are there.
pub(super) struct Jpeg {
    pub(super) orientation: Orientation,
    /// Another of the same size follows, as in a stream of motion JPEG.
    pub(super) is_stream: bool,
}

impl Jpeg {
    /// Walks over the segments to the end marker. Decoders fill what is missing with grey.
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
        // Phones and cameras append further pictures too (previews, gain maps), and list them.
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

/// What the segments up to the end marker say.
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
                // Without contents: TEM, restarts, a start that does not belong here.
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

/// The next marker at or after `at`, which is moved past it. Between markers lie the coded pixels.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)?;
        // Any number of these may precede a marker.
        *at += bytes[*at..].iter().position(|&byte| byte != 0xff)?;
        let marker = bytes[*at];
        *at += 1;
        // 0 marks an 0xff among the coded pixels.
        if marker != 0 {
            return Some(marker);
        }
    }
}
