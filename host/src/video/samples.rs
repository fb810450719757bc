//! Converts 8-bit samples to RGB, like Pillow's `convert("RGB")`: drops the alpha channel and repeats grey.

use std::path::Path;

use super::error::VideoError;
use super::memory;

/// Converts pixels of 1 (grey), 2 (grey, alpha), 3 or 4 samples to red, green and blue.
pub(super) fn to_rgb(
    path: &Path,
    mut samples: Vec<u8>,
    channels: usize,
) -> Result<Vec<u8>, VideoError> {
    match channels {
        3 => {}
        4 => {
            let pixels = samples.len() / 4;
            for pixel in 0..pixels {
                samples.copy_within(pixel * 4..pixel * 4 + 3, pixel * 3);
            }
            samples.truncate(pixels * 3);
        }
        _ => {
            let grey = samples.iter().step_by(channels.max(1));
            let mut rgb = memory::with_capacity_for(path, grey.len() * 3)?;
            grey.for_each(|&grey| rgb.extend_from_slice(&[grey; 3]));
            samples = rgb;
        }
    }
    Ok(samples)
}

/// Converts the same pixels to red, green, blue and alpha.
pub(super) fn to_rgba(
    path: &Path,
    samples: Vec<u8>,
    channels: usize,
) -> Result<Vec<u8>, VideoError> {
    if channels == 4 {
        return Ok(samples);
    }
    let pixels = samples.chunks_exact(channels.max(1));
    let mut rgba = memory::with_capacity_for(path, pixels.len() * 4)?;
    for pixel in pixels {
        rgba.extend_from_slice(&match *pixel {
            [grey, alpha] => [grey, grey, grey, alpha],
            [red, green, blue] => [red, green, blue, 255],
            [grey, ..] => [grey, grey, grey, 255],
            [] => [0; 4],
        });
    }
    Ok(rgba)
}

/// Keeps the upper 8 bits of 16-bit samples in native byte order.
pub(super) fn upper_bytes(samples: &mut Vec<u8>) {
    let upper = usize::from(cfg!(target_endian = "little"));
    let len = samples.len() / 2;
    for at in 0..len {
        samples[at] = samples[at * 2 + upper];
    }
    samples.truncate(len);
}
