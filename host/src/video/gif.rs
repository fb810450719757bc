//! Reads GIFs as animations.

use std::fs::File;
use std::io::BufReader;
use std::num::NonZeroU64;
use std::path::Path;

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, DisposalMethod, MemoryLimit};

use super::animation::{Animation, Disposal, Patch, PatchDecoder};
use super::error::VideoError;
use super::limits::ReadLimits;
use super::orientation::Orientation;
use super::{Frames, Selection, memory, unreadable};

/// Reads the chosen frames of the GIF at `path`.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    limits: &ReadLimits,
) -> Result<Frames, VideoError> {
    let failed = |source: DecodingError| VideoError::image(path, source);
    let mut decoder = open(path, limits)?;
    let mut patches = Vec::new();
    while let Some(frame) = decoder.next_frame_info().map_err(failed)? {
        limits.check_frames(path, patches.len() as u64 + 1)?;
        let disposal = match frame.dispose {
            DisposalMethod::Any | DisposalMethod::Keep => Disposal::Keep,
            DisposalMethod::Background => Disposal::Clear,
            DisposalMethod::Previous => Disposal::Restore,
        };
        let patch = Patch {
            x: frame.left.into(),
            y: frame.top.into(),
            width: frame.width.into(),
            height: frame.height.into(),
            seconds: f64::from(frame.delay) * 10.0 / 1000.0,
            disposal,
            opaque: frame.transparent.is_none(),
        };
        memory::push(path, &mut patches, patch)?;
    }
    let animation = Animation {
        path,
        limits,
        width: decoder.width().into(),
        height: decoder.height().into(),
        patches,
        orientation: Orientation::default(),
        pixels: GifPixels {
            path,
            decoder: open(path, limits)?,
            next: 0,
        },
    };
    animation.read(selection)
}

fn open(path: &Path, limits: &ReadLimits) -> Result<Decoder<BufReader<File>>, VideoError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    if let Some(bytes) = NonZeroU64::new(limits.max_pixels) {
        options.set_memory_limit(MemoryLimit::Bytes(bytes));
    }
    let decoder = options
        .read_info(BufReader::new(file))
        .map_err(|source| VideoError::image(path, source))?;
    limits.check_pixels(path, decoder.width().into(), decoder.height().into())?;
    Ok(decoder)
}

struct GifPixels<'a> {
    path: &'a Path,
    decoder: Decoder<BufReader<File>>,
    /// The index of the next patch in the decoder.
    next: usize,
}

impl PatchDecoder for GifPixels<'_> {
    fn decode(&mut self, index: usize, _: &Patch) -> Result<Vec<u8>, VideoError> {
        let failed = |source: DecodingError| VideoError::image(self.path, source);
        // Reading the next frame's description skips the pixels of the current one.
        while self.next <= index {
            if self.decoder.next_frame_info().map_err(failed)?.is_none() {
                // The file has changed since it was listed.
                return Err(VideoError::NoFrames {
                    path: self.path.to_owned(),
                });
            }
            self.next += 1;
        }
        let mut places = memory::zeroed(self.path, self.decoder.buffer_size())?;
        self.decoder.read_into_buffer(&mut places).map_err(failed)?;
        let palette = self.decoder.palette().map_err(failed)?.as_chunks::<3>().0;
        let transparent = self
            .decoder
            .current_frame_info()
            .and_then(|frame| frame.transparent);
        let mut rgba = memory::with_capacity_for(self.path, places.len() * 4)?;
        for place in places {
            // Indices outside the palette are black, as in Pillow.
            let [red, green, blue] = palette.get(usize::from(place)).copied().unwrap_or_default();
            let alpha = if Some(place) == transparent { 0 } else { 255 };
            rgba.extend_from_slice(&[red, green, blue, alpha]);
        }
        Ok(rgba)
    }

    fn blend(below: [u8; 4], above: [u8; 4]) -> [u8; 4] {
        if above[3] == 0 { below } else { above }
    }
}
