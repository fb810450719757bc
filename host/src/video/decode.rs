//! Videos: from a container to the chosen frames, exact also after seeking.
//!
//! The packets are listed first ([`Index`]), then each chosen frame is decoded from the nearest key
//! frame that can lead to it ([`Stream`]); only the chosen ones are turned to RGB.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ffmpeg_next::Error;
use ffmpeg_next::frame::Video;
use ffmpeg_next::util::frame::DecodeError;

use super::container;
use super::error::VideoError;
use super::index::Index;
use super::limits::Limits;
use super::rgb::Converter;
use super::stream::Stream;
use super::{Frames, RgbFrame, Selection, sample};

/// A decoder may hold back this many pictures to put them in order, besides one a thread. A picture
/// that is later than that will not come.
const LONGEST_DELAY: usize = 64;

/// When neither the container nor its packets tell the rate.
const FALLBACK_FPS: f64 = 25.0;

/// Reads the chosen frames of the video at `path`.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    limits: &Limits,
) -> Result<Frames, VideoError> {
    let mut container = container::open(path, limits)?;
    let decoder = container.decoder(path, limits)?;
    let index = Index::scan(path, &mut container, limits)?;
    let fps = container.fps.unwrap_or(FALLBACK_FPS);
    let indices = sample::frame_indices(path, index.shown, fps, selection)?;
    let wanted: BTreeSet<usize> = indices.iter().copied().collect();
    let size = (decoder.width().into(), decoder.height().into());
    limits.check_clip(path, wanted.len() as u64, size.0, size.1)?;

    let mut reader = Reader {
        path,
        limits,
        fps,
        index: &index,
        stream: Stream::new(path, limits, &index, container, decoder),
        converter: Converter::default(),
        bytes: 0,
    };
    let found = match &index.order {
        Some(order) => reader.timed(order, &wanted)?,
        None => reader.counted(&wanted)?,
    };
    let frames = indices
        .iter()
        .map(|frame| {
            found
                .get(frame)
                .cloned()
                .ok_or_else(|| reader.damaged(*frame))
        })
        .collect::<Result<_, _>>()?;
    Ok(Frames {
        frames,
        indices,
        total_frames: index.shown,
        fps,
    })
}

struct Reader<'a> {
    path: &'a Path,
    limits: &'a Limits,
    fps: f64,
    index: &'a Index,
    stream: Stream<'a>,
    converter: Converter,
    /// Of all frames converted so far.
    bytes: u128,
}

/// What one pass over the packets came to.
enum Outcome {
    Found,
    /// The decoder went past it.
    Skipped,
}

impl Reader<'_> {
    /// The `wanted` frames, by number, where `order` tells which packet each frame is.
    fn timed(
        &mut self,
        order: &[u32],
        wanted: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Arc<RgbFrame>>, VideoError> {
        let mut rank_of = vec![usize::MAX; self.index.entries.len()];
        for (rank, &place) in order.iter().enumerate() {
            rank_of[place as usize] = rank;
        }
        let mut run = Run {
            order,
            rank_of,
            seen: vec![false; order.len()],
            wanted: wanted.clone(),
            found: BTreeMap::new(),
        };
        for &rank in wanted {
            self.obtain(&mut run, rank)?;
        }
        Ok(run.found)
    }

    /// Decodes until frame `rank` is among those found.
    fn obtain(&mut self, run: &mut Run<'_>, rank: usize) -> Result<(), VideoError> {
        if run.found.contains_key(&rank) {
            return Ok(());
        }
        let from = self.index.start_for(run.order[rank] as usize);
        if !self.stream.leads_to(from) {
            self.stream.go_to(from)?;
        }
        for attempt in 0.. {
            match self.run_until(run, rank)? {
                Outcome::Found => break,
                Outcome::Skipped => {}
            }
            if self.stream.start() > 0 {
                let earlier = if attempt == 0 {
                    self.index.key_before(self.stream.start())
                } else {
                    0
                };
                self.stream.go_to(earlier)?;
                continue;
            }
            // Decoded from the very start, and still not there.
            let Some(nearest) = run
                .nearest(rank)
                .filter(|_| self.stream.failure().is_none())
            else {
                return Err(self.damaged(rank));
            };
            // A packet without a picture of its own (the second field of a frame, a repeated
            // frame): a player would go on showing the one before.
            run.wanted.insert(nearest);
            self.obtain(run, nearest)?;
            if let Some(frame) = run.found.get(&nearest).cloned() {
                run.found.insert(rank, frame);
            }
            break;
        }
        Ok(())
    }

    /// Goes on decoding until frame `rank` comes, or can no longer come.
    fn run_until(&mut self, run: &mut Run<'_>, rank: usize) -> Result<Outcome, VideoError> {
        let target = run.order[rank] as usize;
        let last = target + LONGEST_DELAY + self.limits.decoder_threads();
        while !self.stream.is_past(last) {
            let Some(picture) = self.stream.next_picture()? else {
                break;
            };
            let Some(place) = picture.place else { continue };
            let Some(&shown) = run.rank_of.get(place).filter(|&&rank| rank != usize::MAX) else {
                continue;
            };
            run.seen[shown] = true;
            if !run.wanted.contains(&shown) || run.found.contains_key(&shown) {
                continue;
            }
            if self.is_incomplete(&picture.frame) {
                if shown == rank {
                    return Ok(Outcome::Skipped);
                }
                continue;
            }
            let frame = self.convert(shown, &picture.frame)?;
            run.found.insert(shown, frame);
            if shown == rank {
                return Ok(Outcome::Found);
            }
        }
        Ok(Outcome::Skipped)
    }

    /// The `wanted` frames by counting pictures from the start.
    fn counted(
        &mut self,
        wanted: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Arc<RgbFrame>>, VideoError> {
        let mut found = BTreeMap::new();
        let Some(&last) = wanted.last() else {
            return Ok(found);
        };
        self.stream.go_to(0)?;
        let mut latest = None;
        for rank in 0..=last {
            let picture = self.stream.next_picture()?;
            if self.stream.failure().is_some() {
                return Err(self.damaged(rank));
            }
            // Fewer pictures than packets, and the decoder did not mind: the last one stays.
            let Some(picture) = picture else { break };
            if wanted.contains(&rank) {
                found.insert(rank, self.convert(rank, &picture.frame)?);
            }
            latest = Some(picture.frame);
        }
        let missing: Vec<usize> = wanted
            .iter()
            .copied()
            .filter(|rank| !found.contains_key(rank))
            .collect();
        if let Some(&first) = missing.first() {
            let Some(latest) = latest else {
                return Err(self.damaged(first));
            };
            let latest = self.convert(first, &latest)?;
            found.extend(missing.into_iter().map(|rank| (rank, latest.clone())));
        }
        Ok(found)
    }

    /// Whether the decoder filled holes in this picture with guesses.
    fn is_incomplete(&mut self, frame: &Video) -> bool {
        let flags = frame.decode_error_flags();
        let damaged = DecodeError::INVALID_BITSTREAM | DecodeError::DECODE_SLICES;
        if flags.intersects(damaged) || frame.is_corrupt() {
            self.stream.fail(Error::InvalidData);
            return true;
        }
        // A reference that is missing after a seek is there when decoding starts earlier; one that
        // is missing from the start is how the file was cut, and every player shows it so.
        self.stream.start() > 0 && flags.contains(DecodeError::MISSING_REFERENCE)
    }

    fn convert(&mut self, rank: usize, frame: &Video) -> Result<Arc<RgbFrame>, VideoError> {
        let (width, height) = (u64::from(frame.width()), u64::from(frame.height()));
        self.limits.check_pixels(self.path, width, height)?;
        self.bytes += u128::from(width) * u128::from(height) * 3;
        self.limits.check_clip_bytes(self.path, self.bytes)?;
        match self.converter.convert(frame, self.stream.quarter_turns()) {
            Ok(frame) => Ok(Arc::new(frame)),
            Err(failure) => {
                self.stream.fail(failure);
                Err(self.damaged(rank))
            }
        }
    }

    fn damaged(&self, frame: usize) -> VideoError {
        VideoError::Damaged {
            path: self.path.to_owned(),
            frame,
            total: self.index.shown,
            seconds: frame as f64 / self.fps,
            source: self.stream.failure(),
        }
    }
}

/// What a read is after, and has.
struct Run<'a> {
    /// Packet of each frame.
    order: &'a [u32],
    /// Frame of each packet; `usize::MAX` where it is never shown.
    rank_of: Vec<usize>,
    /// Whether a picture came out for the frame, wanted or not.
    seen: Vec<bool>,
    wanted: BTreeSet<usize>,
    found: BTreeMap<usize, Arc<RgbFrame>>,
}

impl Run<'_> {
    /// The nearest other frame of which there is a picture: before `rank`, else after it.
    fn nearest(&self, rank: usize) -> Option<usize> {
        let before = (0..rank).rev().find(|&rank| self.seen[rank]);
        before.or_else(|| (rank + 1..self.seen.len()).find(|&rank| self.seen[rank]))
    }
}
