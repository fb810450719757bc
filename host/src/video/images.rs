//! Still images and folders of images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{ImageDecoder, ImageReader};

use super::error::VideoError;
use super::limits::Limits;
use super::{Frames, RgbFrame, Selection, sample, unreadable};

/// The endings of the files in a folder that count as frames.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// A still image is a video that stands still: one frame, as often as frames are wanted.
pub(super) fn read_still(
    path: &Path,
    selection: &Selection,
    limits: &Limits,
) -> Result<Frames, VideoError> {
    let frame = Arc::new(decode(path, 0, limits)?);
    Ok(Frames {
        frames: vec![frame; selection.num_frames],
        indices: vec![0; selection.num_frames],
        total_frames: 1,
        fps: 0.0,
    })
}

/// The images of a folder, sorted by file name, are the frames of a video.
pub(super) fn read_folder(
    path: &Path,
    selection: &Selection,
    limits: &Limits,
) -> Result<Frames, VideoError> {
    let images = images_in(path, limits)?;
    if images.is_empty() {
        let extensions = EXTENSIONS.map(|end| format!(".{end}")).join(", ");
        return Err(VideoError::EmptyFolder {
            path: path.to_owned(),
            extensions,
        });
    }
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
                let frame = Arc::new(decode(&images[index], bytes, limits)?);
                bytes += frame.data.len() as u128;
                decoded.insert(index, frame.clone());
                frame
            }
        };
        frames.push(frame);
    }
    let fps = selection.folder_fps.unwrap_or(0.0);
    Ok(Frames {
        frames,
        indices,
        total_frames: n,
        fps,
    })
}

fn images_in(path: &Path, limits: &Limits) -> Result<Vec<PathBuf>, VideoError> {
    let mut images = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| unreadable(path, source))? {
        let file = entry.map_err(|source| unreadable(path, source))?.path();
        let is_image = file.extension().is_some_and(|end| {
            EXTENSIONS
                .iter()
                .any(|known| end.eq_ignore_ascii_case(known))
        });
        if is_image && file.is_file() {
            limits.check_frames(path, images.len() as u64 + 1)?;
            images.push(file);
        }
    }
    images.sort();
    Ok(images)
}

/// Decodes one image to RGB as Pillow's `convert("RGB")` does: an alpha channel is dropped, grey is
/// repeated, and a note on how the camera was held (EXIF) is not followed. `bytes` are those of the
/// frames already chosen.
fn decode(path: &Path, bytes: u128, limits: &Limits) -> Result<RgbFrame, VideoError> {
    let failed = |source| VideoError::Image {
        path: path.to_owned(),
        source,
    };
    let size = fs::metadata(path)
        .map_err(|source| unreadable(path, source))?
        .len();
    limits.check_image_bytes(path, size)?;
    if size == 0 {
        return Err(VideoError::EmptyFile {
            path: path.to_owned(),
        });
    }
    let mut decoder = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|source| unreadable(path, source))?
        .into_decoder()
        .map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(path, width.into(), height.into())?;
    let chosen = u128::from(width) * u128::from(height) * 3;
    limits.check_clip_bytes(path, bytes.saturating_add(chosen))?;
    decoder.set_limits(decoder_limits(limits)).map_err(failed)?;

    let rgb = image::DynamicImage::from_decoder(decoder)
        .map_err(failed)?
        .into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(RgbFrame {
        width,
        height,
        data: rgb.into_raw(),
    })
}

/// What the image decoders may allocate: a picture of the largest size at 16 bits and four
/// channels, once decoded and once converted.
pub(super) fn decoder_limits(limits: &Limits) -> image::Limits {
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(
        limits
            .max_pixels
            .saturating_mul(16)
            .saturating_add(64 << 20),
    );
    bounds
}
