//! Detects the format of a file from its first bytes.

use std::path::Path;

/// The supported image formats, for messages.
pub(super) const SUPPORTED_IMAGES: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF";

/// The number of bytes needed for detection.
pub(super) const HEAD: usize = 64;

/// The kind of a file, which determines the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Gif,
    Image(StillFormat),
    /// An unsupported image format with its name.
    OtherImage(&'static str),
    /// Anything else: FFmpeg detects the format.
    Video,
}

/// An image format, usually with one image per file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StillFormat {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Tiff,
}

/// Detects the kind from the first bytes and, if they are ambiguous, from the name.
pub(super) fn detect(path: &Path, head: &[u8]) -> FileKind {
    // A motion JPEG stream begins like a single JPEG, so the name decides.
    let motion_jpeg = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("mjpeg") || end.eq_ignore_ascii_case("mjpg"));
    let at = |offset: usize, bytes: &[u8]| head.get(offset..).is_some_and(|x| x.starts_with(bytes));
    if at(0, b"GIF87a") || at(0, b"GIF89a") {
        FileKind::Gif
    } else if at(0, b"\xff\xd8\xff") {
        if motion_jpeg {
            FileKind::Video
        } else {
            FileKind::Image(StillFormat::Jpeg)
        }
    } else if at(0, b"\x89PNG\r\n\x1a\n") {
        FileKind::Image(StillFormat::Png)
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        FileKind::Image(StillFormat::WebP)
    } else if at(0, b"BM") {
        FileKind::Image(StillFormat::Bmp)
    } else if at(0, b"II*\0\x10\0\0\0CR") {
        FileKind::OtherImage("a raw camera (CR2)")
    } else if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
        .iter()
        .any(|mark| at(0, *mark))
    {
        FileKind::Image(StillFormat::Tiff)
    } else {
        other(head, at).map_or(FileKind::Video, FileKind::OtherImage)
    }
}

fn other(head: &[u8], at: impl Fn(usize, &[u8]) -> bool) -> Option<&'static str> {
    let known: [(usize, &[u8], &str); 16] = [
        (4, b"ftyphei", "a HEIC"),
        (4, b"ftyphev", "a HEIC"),
        (4, b"ftypcrx ", "a raw camera (CR3)"),
        (0, b"\0\0\0\x0cjP  \r\n", "a JPEG 2000"),
        (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
        (0, b"\0\0\0\x0cJXL \r\n", "a JPEG XL"),
        (0, b"\xff\x0a", "a JPEG XL"),
        (0, b"8BPS", "a Photoshop"),
        (0, b"\x76\x2f\x31\x01", "an OpenEXR"),
        (0, b"#?RADIANCE", "a Radiance HDR"),
        (0, b"qoif", "a QOI"),
        (0, b"DDS ", "a DDS"),
        (0, b"gimp xcf", "a GIMP"),
        (0, b"%PDF-", "a PDF"),
        (0, b"<svg", "an SVG"),
        (0, b"FUJIFILMCCD-RAW", "a raw camera (RAF)"),
    ];
    if let Some((_, _, name)) = known.iter().find(|(offset, mark, _)| at(*offset, mark)) {
        return Some(name);
    }
    match head {
        [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() => {
            Some("a PPM, PGM or PBM (Netpbm)")
        }
        // The number of icons has two bytes. A picture header in an MPEG stream begins like an icon, but the
        // second of these bytes is never 0 there.
        [0, 0, 1, 0, _, 0, ..] => Some("an icon (ICO)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mpeg_picture_header_is_not_an_icon() {
        let path = Path::new("clip");
        let icon = b"\0\0\x01\0\x02\0\x10\x10";
        assert!(matches!(
            detect(path, icon),
            FileKind::OtherImage("an icon (ICO)")
        ));
        let picture = b"\0\0\x01\0\0\xd7\xff\xf8";
        assert!(matches!(detect(path, picture), FileKind::Video));
    }
}
