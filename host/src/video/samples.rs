//! Samples of 8 bits as RGB, as Pillow's `convert("RGB")` makes it: an alpha channel is dropped and
//! grey is repeated.

use std::path::Path;

use super::error::VideoError;
use super::memory;

/// Pixels of 1 (grey), 2 (grey, alpha), 3 or 4 samples as red, green and blue.
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
            let mut rgb = memory::with_room_for(path, grey.len() * 3)?;
            grey.for_each(|&grey| rgb.extend_from_slice(&[grey; 3]));
            samples = rgb;
        }
    }
    Ok(samples)
}

/// The same pixels as red, green, blue and alpha.
pub(super) fn to_rgba(
    path: &Path,
    samples: Vec<u8>,
    channels: usize,
) -> Result<Vec<u8>, VideoError> {
    if channels == 4 {
        return Ok(samples);
    }
    let pixels = samples.chunks_exact(channels.max(1));
    let mut rgba = memory::with_room_for(path, pixels.len() * 4)?;
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

/// The upper 8 bits of samples of 16, in the machine's order of bytes.
pub(super) fn upper_bytes(samples: &mut Vec<u8>) {
    let upper = usize::from(cfg!(target_endian = "little"));
    let len = samples.len() / 2;
    for at in 0..len {
        samples[at] = samples[at * 2 + upper];
    }
    samples.truncate(len);
}
