//! Reads animations (GIF, APNG, WebP): patches that are painted onto a canvas one after another.
//!
//! A small file can declare many large frames. The patches are therefore listed first, without their pixels, and only
//! those that are visible in a chosen frame are decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::error::VideoError;
use super::limits::ReadLimits;
use super::orientation::Orientation;
use super::{Frames, RgbFrame, Selection, memory, sample};

/// The duration that browsers use instead of 0, in seconds.
const UNSTATED_DURATION: f64 = 0.1;

/// What happens to a patch after its duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposal {
    /// The patch stays.
    Keep,
    /// Its area is cleared.
    Clear,
    /// The previous contents of its area are restored.
    Restore,
}

/// A frame as stored in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patch {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Duration. 0 if the file does not specify it.
    pub(super) seconds: f64,
    pub(super) disposal: Disposal,
    /// Whether it replaces the contents of its area without blending.
    pub(super) opaque: bool,
}

impl Patch {
    fn area(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    fn covers(&self, x: usize, y: usize) -> bool {
        let within = |at: usize, start: u32, length: u32| {
            at.checked_sub(start as usize)
                .is_some_and(|past| past < length as usize)
        };
        within(x, self.x, self.width) && within(y, self.y, self.height)
    }
}

/// The pixel decoder of an animation format.
pub(super) trait PatchDecoder {
    /// Whether a patch is not blended with the area that the disposal of the patch before it cleared.
    const REPLACES_CLEARED: bool = false;

    /// Decodes the pixels of patch `index`, `[height, width, 4]` in RGBA order. Called in ascending order, at most
    /// once for each patch.
    fn decode(&mut self, index: usize, patch: &Patch) -> Result<Vec<u8>, VideoError>;

    /// Blends a pixel with another one above it.
    fn blend(below: [u8; 4], above: [u8; 4]) -> [u8; 4];
}

/// An animation whose patches are listed.
pub(super) struct Animation<'a, P> {
    pub(super) path: &'a Path,
    pub(super) limits: &'a ReadLimits,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) patches: Vec<Patch>,
    pub(super) orientation: Orientation,
    pub(super) pixels: P,
}

impl<P: PatchDecoder> Animation<'_, P> {
    /// Reads the chosen frames. The frame rate is the number of frames divided by the total duration.
    pub(super) fn read(mut self, selection: &Selection) -> Result<Frames, VideoError> {
        let n = self.patches.len();
        if n == 0 {
            return Err(VideoError::NoFrames {
                path: self.path.to_owned(),
            });
        }
        self.limits
            .check_size(self.path, self.width.into(), self.height.into())?;
        let shown = |patch: &Patch| match patch.seconds {
            seconds if seconds > 0.0 => seconds,
            _ => UNSTATED_DURATION,
        };
        let mut length = 0.0;
        let mut starts = Vec::with_capacity(n);
        for patch in &self.patches {
            starts.push(length);
            length += shown(patch);
        }
        let fps = n as f64 / length;
        let bounded = selection.has_window() || selection.end_frame.is_some_and(|frame| frame >= 0);
        let indices = if bounded {
            sample::frame_indices(self.path, n, fps, selection)?
        } else {
            sample::evenly(n, selection.num_frames)
        };
        let wanted = indices.iter().copied().collect();
        let found = self.paint(&wanted)?;
        let frames = indices
            .iter()
            .filter_map(|index| found.get(index).cloned())
            .collect();
        let seconds = indices.iter().map(|&index| starts[index]).collect();
        Ok(Frames {
            frames,
            seconds,
            indices,
            total_frames: n,
            fps,
        })
    }

    fn paint(
        &mut self,
        wanted: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Arc<RgbFrame>>, VideoError> {
        let (path, size) = (self.path, (self.width, self.height));
        let count = wanted.len() as u64;
        self.limits
            .check_animation_frames(path, count, size.0.into(), size.1.into())?;
        let last = wanted.last().map_or(0, |last| last + 1);
        let plan = plan(path, &self.patches[..last], size, wanted)?;
        let pixels = plan.iter().zip(&self.patches).map(|(step, patch)| {
            let times = u64::from(step.paint) + u64::from(step.dispose);
            u128::from(patch.area()) * u128::from(times)
        });
        self.limits.check_animation(path, pixels.sum())?;

        let mut canvas = Canvas::new(path, size)?;
        let mut found = BTreeMap::new();
        for (index, step) in plan.iter().enumerate() {
            let patch = self.patches[index];
            let cleared = index.checked_sub(1).map(|before| self.patches[before]);
            let cleared = cleared.filter(|before| {
                P::REPLACES_CLEARED && before.disposal == Disposal::Clear && !patch.opaque
            });
            let mut covered = None;
            if step.paint {
                let (width, height) = (patch.width.into(), patch.height.into());
                self.limits.check_pixels(path, width, height)?;
                if step.dispose && patch.disposal == Disposal::Restore {
                    covered = Some(canvas.copy(path, &patch)?);
                }
                // Some decoders fail on patches without pixels.
                if patch.area() > 0 {
                    let above = self.pixels.decode(index, &patch)?;
                    canvas.paint::<P>(&patch, &above, cleared.as_ref());
                }
            }
            if wanted.contains(&index) {
                let frame = canvas.snapshot(path)?;
                memory::check(path, frame.data.len() as u64)?;
                let frame = self.orientation.apply(frame);
                found.insert(index, Arc::new(frame));
            }
            match covered {
                Some(covered) => canvas.restore(&patch, &covered),
                None if step.dispose && patch.disposal == Disposal::Clear => canvas.clear(&patch),
                None => {}
            }
        }
        Ok(found)
    }
}

/// The work to do for a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct PatchWork {
    /// Whether it is decoded and painted.
    paint: bool,
    /// Whether its disposal affects later frames.
    dispose: bool,
}

/// Determines the patches on which chosen frames depend. Goes backwards from each chosen frame to the last patch
/// that covers the whole canvas.
fn plan(
    path: &Path,
    patches: &[Patch],
    size: (u32, u32),
    wanted: &BTreeSet<usize>,
) -> Result<Vec<PatchWork>, VideoError> {
    let mut plan = memory::with_capacity_for(path, patches.len())?;
    plan.resize(patches.len(), PatchWork::default());
    // Whether a later frame depends on the canvas after this patch and its disposal.
    let mut needed_after = false;
    for (index, (step, patch)) in plan.iter_mut().zip(patches).enumerate().rev() {
        let chosen = wanted.contains(&index);
        let full = patch.x == 0 && patch.y == 0 && patch.width >= size.0 && patch.height >= size.1;
        step.paint = chosen || (needed_after && patch.disposal == Disposal::Keep);
        step.dispose = match patch.disposal {
            Disposal::Keep => false,
            Disposal::Clear => needed_after,
            // A patch that is not painted does not have to be removed.
            Disposal::Restore => needed_after && step.paint,
        };
        let shows_through = step.paint && !(full && patch.opaque);
        let survives = needed_after
            && match patch.disposal {
                Disposal::Keep => false,
                Disposal::Clear => !full,
                Disposal::Restore => true,
            };
        needed_after = shows_through || survives;
    }
    Ok(plan)
}

/// The canvas onto which patches are painted.
struct Canvas {
    width: usize,
    height: usize,
    /// `[height, width]` RGBA pixels.
    pixels: Vec<[u8; 4]>,
}

impl Canvas {
    fn new(path: &Path, (width, height): (u32, u32)) -> Result<Self, VideoError> {
        let (width, height) = (width as usize, height as usize);
        let mut pixels = memory::with_capacity_for(path, width * height)?;
        pixels.resize(width * height, [0; 4]);
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Returns the ranges of a patch's rows on the canvas, clipped to the canvas.
    fn rows(&self, patch: &Patch) -> impl Iterator<Item = Range<usize>> + use<> {
        let (left, top) = (patch.x as usize, patch.y as usize);
        let right = left.saturating_add(patch.width as usize).min(self.width);
        let bottom = top.saturating_add(patch.height as usize).min(self.height);
        let stride = self.width;
        (top..if left < right { bottom } else { top })
            .map(move |row| row * stride + left..row * stride + right)
    }

    fn paint<P: PatchDecoder>(&mut self, patch: &Patch, above: &[u8], cleared: Option<&Patch>) {
        let width = self.width;
        let replaces =
            |at: usize| cleared.is_some_and(|cleared| cleared.covers(at % width, at / width));
        let above = above.as_chunks::<4>().0.chunks(patch.width.max(1) as usize);
        for (row, above) in self.rows(patch).zip(above) {
            let start = row.start;
            let below = &mut self.pixels[row];
            if patch.opaque {
                below.copy_from_slice(&above[..below.len()]);
            } else {
                for (at, (below, &above)) in (start..).zip(below.iter_mut().zip(above)) {
                    *below = match replaces(at) {
                        true => above,
                        false => P::blend(*below, above),
                    };
                }
            }
        }
    }

    fn clear(&mut self, patch: &Patch) {
        for row in self.rows(patch) {
            self.pixels[row].fill([0; 4]);
        }
    }

    fn copy(&self, path: &Path, patch: &Patch) -> Result<Vec<[u8; 4]>, VideoError> {
        let len = self.rows(patch).map(|row| row.len()).sum();
        let mut covered = memory::with_capacity_for(path, len)?;
        self.rows(patch)
            .for_each(|row| covered.extend_from_slice(&self.pixels[row]));
        Ok(covered)
    }

    fn restore(&mut self, patch: &Patch, covered: &[[u8; 4]]) {
        let mut at = 0;
        for row in self.rows(patch) {
            let len = row.len();
            self.pixels[row].copy_from_slice(&covered[at..at + len]);
            at += len;
        }
    }

    /// Returns the canvas without alpha, like Pillow's `convert("RGB")`.
    fn snapshot(&self, path: &Path) -> Result<RgbFrame, VideoError> {
        let mut data = memory::with_capacity_for(path, self.pixels.len() * 3)?;
        for [red, green, blue, _] in &self.pixels {
            data.extend_from_slice(&[*red, *green, *blue]);
        }
        Ok(RgbFrame {
            width: self.width,
            height: self.height,
            data,
        })
    }
}
