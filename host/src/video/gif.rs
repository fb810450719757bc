//! GIFs: composed frame by frame, read twice so that only the chosen frames are kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, ImageDecoder, ImageError};

use super::error::VideoError;
use super::limits::Limits;
use super::{Frames, RgbFrame, Selection, images, sample, unreadable};

/// What browsers take for a delay of 0, in seconds.
const UNSTATED_DELAY: f64 = 0.1;

/// Reads the chosen frames of the GIF at `path`. Its rate is its frames over its duration.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    limits: &Limits,
) -> Result<Frames, VideoError> {
    let failed = |source: ImageError| VideoError::Image {
        path: path.to_owned(),
        source,
    };
    let (mut n, mut seconds) = (0, 0.0);
    let mut size = (0, 0);
    for frame in open(path, limits)?.into_frames() {
        let frame = frame.map_err(failed)?;
        n += 1;
        limits.check_frames(path, n as u64)?;
        size = frame.buffer().dimensions();
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let delay = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
        seconds += if delay > 0.0 { delay } else { UNSTATED_DELAY };
    }
    if n == 0 {
        return Err(VideoError::NoFrames {
            path: path.to_owned(),
        });
    }
    let fps = n as f64 / seconds;
    let bounded = selection.has_window() || selection.end_frame.is_some_and(|frame| frame >= 0);
    let indices = if bounded {
        sample::frame_indices(path, n, fps, selection)?
    } else {
        sample::evenly(n, selection.num_frames)
    };

    let mut chosen: BTreeMap<usize, Option<Arc<RgbFrame>>> =
        indices.iter().map(|&index| (index, None)).collect();
    limits.check_clip(path, chosen.len() as u64, size.0.into(), size.1.into())?;
    let last = chosen.keys().next_back().copied().unwrap_or(0);
    for (index, frame) in open(path, limits)?.into_frames().take(last + 1).enumerate() {
        let frame = frame.map_err(failed)?;
        if let Some(place) = chosen.get_mut(&index) {
            let picture = frame.into_buffer();
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            let data = picture
                .pixels()
                .flat_map(|pixel| [pixel.0[0], pixel.0[1], pixel.0[2]]);
            *place = Some(Arc::new(RgbFrame {
                width,
                height,
                data: data.collect(),
            }));
        }
    }
    let frames: Vec<_> = indices
        .iter()
        .filter_map(|index| chosen.get(index).cloned().flatten())
        .collect();
    if frames.len() != indices.len() {
        return Err(VideoError::NoFrames {
            path: path.to_owned(),
        });
    }
    Ok(Frames {
        frames,
        indices,
        total_frames: n,
        fps,
    })
}

fn open(path: &Path, limits: &Limits) -> Result<GifDecoder<BufReader<File>>, VideoError> {
    let failed = |source: ImageError| VideoError::Image {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let mut decoder = GifDecoder::new(BufReader::new(file)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(path, width.into(), height.into())?;
    decoder
        .set_limits(images::decoder_limits(limits))
        .map_err(failed)?;
    Ok(decoder)
}
