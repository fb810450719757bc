//! Videos: from a container to the chosen frames, exact also after seeking.
//!
//! Time stamps say where to seek, but not which picture came out: containers leave them away, repeat
//! them or change them after a seek. So every packet is stamped with its place in the [`Index`]
//! before it goes to the decoder, and each picture comes out with the place of its packet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ffmpeg_next::frame::Video;
use ffmpeg_next::util::frame::DecodeError;
use ffmpeg_next::{Error, Packet, decoder};

use super::container::{self, Container};
use super::error::VideoError;
use super::index::{Entry, Index};
use super::limits::Limits;
use super::rgb::Converter;
use super::{Frames, RgbFrame, Selection, sample};

/// A decoder may hold back this many pictures to put them in order, besides one a thread. A picture
/// that is later than that will not come.
const LONGEST_DELAY: usize = 64;

/// Packets that are sooner decoded than jumped over.
const SHORT_GAP: usize = 4;

/// Errors in a row after which a decoder is given up.
const MOST_COMPLAINTS: usize = 1000;

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
        container,
        decoder,
        converter: Converter::default(),
        bytes: 0,
        next: index.entries.len(),
        start: index.entries.len(),
        pending: None,
        drained: true,
        placed: false,
        no_seeking: false,
        failure: None,
        complaints: 0,
    };
    let found = match &index.order {
        Some(order) => reader.timed(order, &wanted)?,
        None => reader.counted(&wanted)?,
    };
    let frames = indices
        .iter()
        .map(|frame| found.get(frame).cloned().ok_or_else(|| reader.damaged(*frame)))
        .collect::<Result<_, _>>()?;
    Ok(Frames { frames, indices, total_frames: index.shown, fps })
}

/// A picture as it leaves the decoder, with the place of its packet in the index.
struct Picture {
    place: Option<usize>,
    frame: Video,
}

struct Reader<'a> {
    path: &'a Path,
    limits: &'a Limits,
    fps: f64,
    index: &'a Index,
    container: Container,
    decoder: decoder::Video,
    converter: Converter,
    /// Of all frames converted so far.
    bytes: u128,
    /// The packet that is read next.
    next: usize,
    /// The packet at which decoding last began.
    start: usize,
    /// Read, but not yet given to the decoder: packet `next - 1`.
    pending: Option<Packet>,
    /// The decoder has given its last picture; nothing more comes before a seek.
    drained: bool,
    /// Packets are read from a place that a seek led to, and are compared with the index.
    placed: bool,
    /// Seeking in this file has led astray once.
    no_seeking: bool,
    /// What the decoder last complained of, since decoding began.
    failure: Option<Error>,
    /// How often it complained since its last picture.
    complaints: usize,
}

/// Why one pass over the packets did not give the picture.
enum Outcome {
    Found,
    /// The decoder went past it. Holds the nearest frame that did come: before it, else after it.
    Skipped(Option<usize>),
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
        let mut run = Run { order, rank_of, wanted: wanted.clone(), found: BTreeMap::new() };
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
        let goes_on = !self.drained && from >= self.start && from <= self.next + SHORT_GAP;
        if !goes_on {
            self.go_to(from)?;
        }
        for attempt in 0.. {
            let nearest = match self.run_until(run, rank)? {
                Outcome::Found => break,
                Outcome::Skipped(nearest) => nearest,
            };
            if self.start > 0 {
                let earlier = if attempt == 0 { self.index.key_before(self.start) } else { 0 };
                self.go_to(earlier)?;
                continue;
            }
            // Decoded from the very start, and still not there.
            let Some(nearest) = nearest.filter(|_| self.failure.is_none()) else {
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
        let (mut before, mut after) = (None, None);
        while self.next <= last || self.drained {
            let Some(picture) = self.next_picture()? else { break };
            let Some(place) = picture.place else { continue };
            let Some(&shown) = run.rank_of.get(place).filter(|&&rank| rank != usize::MAX) else {
                continue;
            };
            if shown < rank {
                before = before.max(Some(shown));
            } else if shown > rank {
                after = Some(after.map_or(shown, |rank: usize| rank.min(shown)));
            }
            if !run.wanted.contains(&shown) || run.found.contains_key(&shown) {
                continue;
            }
            if self.is_incomplete(&picture.frame) {
                if shown == rank {
                    return Ok(Outcome::Skipped(before.or(after)));
                }
                continue;
            }
            let frame = self.convert(shown, &picture.frame)?;
            run.found.insert(shown, frame);
            if shown == rank {
                return Ok(Outcome::Found);
            }
        }
        Ok(Outcome::Skipped(before.or(after)))
    }

    /// The `wanted` frames by counting pictures from the start.
    fn counted(
        &mut self,
        wanted: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Arc<RgbFrame>>, VideoError> {
        let mut found = BTreeMap::new();
        let Some(&last) = wanted.last() else { return Ok(found) };
        self.go_to(0)?;
        let mut latest = None;
        for rank in 0..=last {
            let Some(picture) = self.next_picture()? else {
                // Fewer pictures than packets, and the decoder did not mind: the last one stays.
                if self.failure.is_some() || latest.is_none() {
                    return Err(self.damaged(rank));
                }
                break;
            };
            if self.failure.is_some() {
                return Err(self.damaged(rank));
            }
            // The last pictures may be needed in place of those that never come.
            if wanted.contains(&rank) || rank + LONGEST_DELAY > self.index.shown {
                let frame = self.convert(rank, &picture.frame)?;
                if wanted.contains(&rank) {
                    found.insert(rank, frame.clone());
                } else {
                    self.bytes -= frame.data.len() as u128;
                }
                latest = Some(frame);
            }
        }
        if let Some(latest) = latest {
            for &rank in wanted {
                found.entry(rank).or_insert_with(|| latest.clone());
            }
        }
        Ok(found)
    }

    /// The next picture from the decoder, in the order of presentation; `None` at the end.
    fn next_picture(&mut self) -> Result<Option<Picture>, VideoError> {
        while !self.drained {
            let mut frame = Video::empty();
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {
                    self.complaints = 0;
                    let place = frame.pts().and_then(|pts| usize::try_from(pts).ok());
                    return Ok(Some(Picture { place, frame }));
                }
                Err(Error::Other { errno: ffmpeg_next::error::EAGAIN }) => self.feed()?,
                Err(Error::Eof) => self.drained = true,
                Err(failure) => self.fail(failure),
            }
        }
        Ok(None)
    }

    /// Gives the decoder one more packet, or the news that there is none.
    fn feed(&mut self) -> Result<(), VideoError> {
        let packet = match self.pending.take() {
            Some(packet) => Some(packet),
            None => self.next_packet()?,
        };
        let sent = match packet {
            Some(mut packet) => {
                packet.set_pts(Some(self.next as i64 - 1));
                packet.set_dts(None);
                self.decoder.send_packet(&packet)
            }
            None => self.decoder.send_eof(),
        };
        match sent {
            Ok(()) | Err(Error::Eof) => {}
            Err(failure) => self.fail(failure),
        }
        Ok(())
    }

    fn fail(&mut self, failure: Error) {
        self.failure = Some(failure);
        self.complaints += 1;
        if self.complaints > MOST_COMPLAINTS {
            self.drained = true;
        }
    }

    /// Reads the next packet of the video stream, and moves `next` past it.
    fn next_packet(&mut self) -> Result<Option<Packet>, VideoError> {
        if self.next >= self.index.entries.len() {
            return Ok(None);
        }
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.container.input) {
                Ok(()) => {}
                Err(Error::Eof) => return Ok(None),
                Err(source) => {
                    let doing = "reading the video stream";
                    return Err(VideoError::Ffmpeg { path: self.path.to_owned(), doing, source });
                }
            }
            if packet.stream() != self.container.stream {
                continue;
            }
            if self.astray(&packet) {
                return Ok(None);
            }
            self.next += 1;
            return Ok(Some(packet));
        }
    }

    /// Whether the packet is not the one that the index has in its place. After some seeks in some
    /// containers the numbering is off by a packet or more; nothing later in this file is trusted
    /// to seeking then.
    fn astray(&mut self, packet: &Packet) -> bool {
        let known = self.index.entries.get(self.next);
        let astray = self.placed && !known.is_some_and(|known| known.same(&Entry::of(packet)));
        self.no_seeking |= astray;
        astray
    }

    /// Makes packet `key`, or a key frame before it, the next that the decoder sees.
    fn go_to(&mut self, key: usize) -> Result<(), VideoError> {
        let mut from = key;
        for _ in 0..if self.no_seeking { 0 } else { 2 } {
            let entry = self.index.entries[from];
            // A container keeps its key frames by the one time or by the other.
            for time in [entry.pts, entry.dts].into_iter().flatten() {
                if self.seek(time, from)? {
                    return Ok(());
                }
            }
            from = self.index.key_before(from);
        }
        self.rewind()
    }

    /// Whether seeking to `time` led to a packet at or before `key`, and on to `key` itself.
    fn seek(&mut self, time: i64, key: usize) -> Result<bool, VideoError> {
        if self.container.seek(time).is_err() {
            return Ok(false);
        }
        self.restart(0);
        self.placed = false;
        let Some(mut packet) = self.next_packet()? else { return Ok(false) };
        self.placed = true;
        let Some(place) = self.index.locate(&Entry::of(&packet)) else { return Ok(false) };
        if place > key {
            return Ok(false);
        }
        self.next = place + 1;
        while self.next <= key {
            match self.next_packet()? {
                Some(next) => packet = next,
                None => return Ok(false),
            }
        }
        self.start = key;
        self.pending = Some(packet);
        Ok(true)
    }

    /// Opens the file anew: the one way to its beginning that works for every container.
    fn rewind(&mut self) -> Result<(), VideoError> {
        self.container = container::open(self.path, self.limits)?;
        self.restart(0);
        self.placed = false;
        Ok(())
    }

    fn restart(&mut self, next: usize) {
        self.decoder.flush();
        self.next = next;
        self.start = next;
        self.pending = None;
        self.drained = false;
        self.failure = None;
    }

    /// Whether the decoder filled holes in this picture with guesses.
    fn is_incomplete(&mut self, frame: &Video) -> bool {
        let flags = frame.decode_error_flags();
        let damaged = DecodeError::INVALID_BITSTREAM | DecodeError::DECODE_SLICES;
        if flags.intersects(damaged) || frame.is_corrupt() {
            self.fail(Error::InvalidData);
            return true;
        }
        // A reference that is missing after a seek is there when decoding starts earlier; one that
        // is missing from the start is how the file was cut, and every player shows it so.
        self.start > 0 && flags.contains(DecodeError::MISSING_REFERENCE)
    }

    fn convert(&mut self, rank: usize, frame: &Video) -> Result<Arc<RgbFrame>, VideoError> {
        let (width, height) = (u64::from(frame.width()), u64::from(frame.height()));
        self.limits.check_pixels(self.path, width, height)?;
        self.bytes += u128::from(width) * u128::from(height) * 3;
        self.limits.check_clip_bytes(self.path, self.bytes)?;
        match self.converter.convert(frame, self.container.quarter_turns) {
            Ok(frame) => Ok(Arc::new(frame)),
            Err(failure) => {
                self.fail(failure);
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
            source: self.failure,
        }
    }
}

/// What a read is after, and has.
struct Run<'a> {
    /// Packet of each frame.
    order: &'a [u32],
    /// Frame of each packet; `usize::MAX` where it is never shown.
    rank_of: Vec<usize>,
    wanted: BTreeSet<usize>,
    found: BTreeMap<usize, Arc<RgbFrame>>,
}
