//! Reads the chosen frames by seeking. The timestamps tell which packet contains each frame.
//!
//! The decoder's output is checked against the timestamps: frames must come in their order, each exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ffmpeg_next::frame::Video;
use ffmpeg_next::picture;

use super::error::VideoError;
use super::reader::VideoReader;
use super::sample::{self, PresentationTimes};
use super::{Frames, RgbFrame, Selection};

/// The number of frames that a decoder may hold back for reordering, besides one for each thread. A frame that
/// is later than that does not come.
const LONGEST_DELAY: usize = 64;

/// The number of frames decoded to verify a doubtful order. Covers several groups of pictures.
const VERIFIED_FRAMES: usize = 64;

/// Reads the chosen frames. `order` lists the packet of each frame. Returns `None` if the decoder's output
/// contradicts it.
pub(super) fn read(
    reader: &mut VideoReader<'_>,
    order: &[u32],
    selection: &Selection,
) -> Result<Option<Frames>, VideoError> {
    let mut search = SeekReader::new(reader, order.to_vec());
    if reader.index.is_doubtful && !search.verify_start(reader)? {
        return Ok(None);
    }
    // Runs at most twice: with the last packet and without it.
    'all: loop {
        let indices = search.choose_frames(reader, selection)?;
        search.requested = indices.iter().copied().collect();
        reader.check_clip(search.requested.len())?;
        for frame in search.requested.clone() {
            match search.find(reader, frame)? {
                SearchOutcome::Found => {}
                SearchOutcome::Contradicted => return Ok(None),
                SearchOutcome::Missing if reader.is_last(search.order[frame] as usize) => {
                    // The file is cut short there.
                    search.remove(frame);
                    continue 'all;
                }
                SearchOutcome::Missing => return Err(reader.damaged(frame, search.order.len())),
            }
        }
        let frames = indices.iter().filter_map(|&frame| {
            let place = search.order.get(frame)?;
            search.found.get(place).cloned()
        });
        return Ok(Some(Frames {
            frames: frames.collect(),
            seconds: search.seconds(reader, &indices),
            total_frames: search.order.len(),
            fps: reader.fps,
            indices,
        }));
    }
}

/// The state of reading: the frames known, requested and found.
struct SeekReader {
    /// The packet of each frame.
    order: Vec<u32>,
    /// The frame of each packet. `usize::MAX` if it is never shown.
    frame_of: Vec<usize>,
    /// The last frame from the decoder since decoding began.
    previous: Option<usize>,
    /// Whether decoding can begin at packets flagged as key frames. Some containers flag all packets (an AVI without
    /// an index).
    keys_are_reliable: bool,
    requested: BTreeSet<usize>,
    /// The frames found, by packet.
    found: BTreeMap<u32, Arc<RgbFrame>>,
}

/// How the search for a frame ended.
enum SearchOutcome {
    Found,
    /// The decoder did not return it, or returned an incomplete frame.
    Missing,
    /// The decoder returned another frame.
    Contradicted,
}

/// The next output of the decoder.
enum NextFrame {
    Frame(usize, Video),
    /// A frame that is not shown, or that precedes the packet at which decoding began.
    NotShown,
    /// The frame with which decoding began references others.
    NotKeyFrame,
    Contradiction,
    End,
}

impl SeekReader {
    fn new(reader: &VideoReader<'_>, order: Vec<u32>) -> Self {
        let mut search = Self {
            frame_of: vec![usize::MAX; reader.index.entries.len()],
            order,
            previous: None,
            keys_are_reliable: true,
            requested: BTreeSet::new(),
            found: BTreeMap::new(),
        };
        search.update_frame_of();
        search
    }

    /// Computes `frame_of` from `order`.
    fn update_frame_of(&mut self) {
        self.frame_of.fill(usize::MAX);
        for (frame, &place) in self.order.iter().enumerate() {
            self.frame_of[place as usize] = frame;
        }
    }

    fn remove(&mut self, frame: usize) {
        self.order.remove(frame);
        self.update_frame_of();
        // The decoder is past all remaining frames.
        self.previous = Some(self.order.len());
    }

    /// Returns the time at which each of the frames is shown, in seconds from the first frame of the file.
    fn seconds(&self, reader: &VideoReader<'_>, frames: &[usize]) -> Vec<f64> {
        let time = |frame: usize| reader.index.entries[self.order[frame] as usize].pts;
        let seconds = |&frame: &usize| match (time(0), time(frame)) {
            (Some(first), Some(time)) => time.saturating_sub(first) as f64 * reader.tick,
            _ => f64::NAN,
        };
        frames.iter().map(seconds).collect()
    }

    fn choose_frames(
        &self,
        reader: &VideoReader<'_>,
        selection: &Selection,
    ) -> Result<Vec<usize>, VideoError> {
        let entries = || {
            self.order
                .iter()
                .map(|&place| reader.index.entries[place as usize])
        };
        let times: Option<Vec<i64>> = entries().map(|entry| entry.pts).collect();
        let (Some(times), true) = (times, selection.goes_by_seconds()) else {
            let n = self.order.len();
            return sample::frame_indices(reader.path, n, reader.fps, selection);
        };
        let (first, last) = (times.first().copied(), times.last().copied());
        let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
        let seconds = |time: i64| time.saturating_sub(first) as f64 * reader.tick;
        let duration = entries().next_back().map_or(0, |entry| entry.duration);
        let duration = if duration > 0 {
            duration as f64 * reader.tick
        } else {
            1.0 / reader.fps
        };
        let times = PresentationTimes {
            length: seconds(last) + duration,
            shown: times.into_iter().map(seconds).collect(),
            tick: reader.tick,
        };
        sample::timed_frame_indices(reader.path, &times, reader.fps, selection)
    }

    /// Decodes the beginning to verify the order. Packets before the first decoded frame are removed, because the
    /// stream is cut there. Returns `false` if the decoder's output contradicts the order.
    fn verify_start(&mut self, reader: &mut VideoReader<'_>) -> Result<bool, VideoError> {
        self.seek_to(reader, 0)?;
        let first = loop {
            let Some(picture) = reader.stream.next_frame()? else {
                return Ok(false);
            };
            match picture.place.map(|place| self.frame_of.get(place)) {
                Some(Some(&frame)) if frame != usize::MAX => break frame,
                Some(Some(_)) => {}
                _ => return Ok(false),
            }
        };
        reader.stream.clear_failure();
        self.order.drain(..first);
        self.update_frame_of();
        self.previous = Some(0);
        for _ in 1..VERIFIED_FRAMES {
            match self.next(reader)? {
                NextFrame::Frame(..) | NextFrame::NotShown => {}
                NextFrame::NotKeyFrame | NextFrame::Contradiction => return Ok(false),
                NextFrame::End => break,
            }
        }
        Ok(true)
    }

    fn seek_to(&mut self, reader: &mut VideoReader<'_>, place: usize) -> Result<(), VideoError> {
        self.previous = None;
        reader.stream.seek_to(place)
    }

    /// Decodes until `frame` is found or can no longer come.
    fn find(
        &mut self,
        reader: &mut VideoReader<'_>,
        frame: usize,
    ) -> Result<SearchOutcome, VideoError> {
        if self.found.contains_key(&self.order[frame]) {
            return Ok(SearchOutcome::Found);
        }
        let place = self.order[frame] as usize;
        let from = match self.keys_are_reliable {
            true => reader.index.start_for(place),
            false => 0,
        };
        let is_past = self.previous.is_some_and(|previous| previous >= frame);
        let mut continues = !is_past && reader.stream.can_continue_to(from);
        if !continues {
            self.seek_to(reader, from)?;
        }
        // The number of key frames to go back for the next attempt.
        let mut back = 1;
        loop {
            let outcome = self.decode_until(reader, frame)?;
            let start = reader.stream.start();
            let found = matches!(outcome, SearchOutcome::Found);
            if !found && continues && start < from && reader.stream.failure().is_some() {
                // A decoder may fail permanently, for instance after a wrong frame size. Start again here.
                continues = false;
                self.seek_to(reader, from)?;
                continue;
            }
            let damage = reader.stream.damage();
            let is_final = self.keys_are_reliable && damage.is_present() && !damage.affects(place);
            if found || start == 0 || is_final {
                // If the decoder reported no error, the missing frame does not exist.
                let is_damaged = reader.stream.failure().is_some();
                return Ok(match outcome {
                    SearchOutcome::Missing if !is_damaged => SearchOutcome::Contradicted,
                    outcome => outcome,
                });
            }
            // The seek may have gone too far, or the damage begins earlier.
            let mut earlier = if self.keys_are_reliable { start } else { 0 };
            for _ in 0..back {
                earlier = reader.index.key_before(earlier);
            }
            self.seek_to(reader, earlier)?;
            back *= 2;
        }
    }

    /// Continues decoding until `frame` comes or can no longer come.
    fn decode_until(
        &mut self,
        reader: &mut VideoReader<'_>,
        frame: usize,
    ) -> Result<SearchOutcome, VideoError> {
        let target = self.order[frame] as usize;
        let last = target + LONGEST_DELAY + reader.limits.decoder_threads();
        let mut outcome = SearchOutcome::Missing;
        while !reader.stream.is_past(last) {
            let (shown, picture) = match self.next(reader)? {
                NextFrame::Frame(shown, picture) => (shown, picture),
                NextFrame::NotShown => continue,
                NextFrame::NotKeyFrame => {
                    self.keys_are_reliable = false;
                    break;
                }
                NextFrame::Contradiction => return Ok(SearchOutcome::Contradicted),
                NextFrame::End => break,
            };
            let place = self.order[shown];
            if self.requested.contains(&shown)
                && !self.found.contains_key(&place)
                && !reader.is_incomplete(Some(place as usize), &picture)
                && !reader.stream.damage().affects(place as usize)
            {
                let picture = reader.convert((shown, self.order.len()), &picture)?;
                self.found.insert(place, picture);
                if shown == frame {
                    outcome = SearchOutcome::Found;
                    // The next frame shows whether this one came in order.
                    if reader.index.may_have_gaps {
                        continue;
                    }
                }
            }
            if shown >= frame {
                break;
            }
        }
        Ok(outcome)
    }

    /// Decodes the next frame and compares it with the expected order.
    fn next(&mut self, reader: &mut VideoReader<'_>) -> Result<NextFrame, VideoError> {
        let Some(picture) = reader.stream.next_frame()? else {
            let is_whole = self
                .previous
                .is_none_or(|last| last + 1 == self.order.len());
            return Ok(if is_whole || reader.stream.failure().is_some() {
                NextFrame::End
            } else {
                NextFrame::Contradiction
            });
        };
        let Some(place) = picture.place.filter(|&place| place < self.frame_of.len()) else {
            return Ok(NextFrame::Contradiction);
        };
        let frame = self.frame_of[place];
        let start = reader.stream.start();
        let entries = &reader.index.entries;
        if frame == usize::MAX {
            // A packet that was expected to produce no frame.
            let is_back = !entries[place].is_hidden() && !reader.is_last(place);
            return Ok(if is_back {
                NextFrame::Contradiction
            } else {
                NextFrame::NotShown
            });
        }
        if start > 0 && entries[place].pts < entries[start].pts {
            return Ok(NextFrame::NotShown);
        }
        let next = match self.previous {
            Some(previous) => previous + 1,
            None if start == 0 => 0,
            None if place == start && is_intra(&picture.frame) => frame,
            None => return Ok(NextFrame::NotKeyFrame),
        };
        // Damage may drop frames, but never repeats one.
        if frame < next || frame > next && reader.stream.failure().is_none() {
            return Ok(NextFrame::Contradiction);
        }
        self.previous = Some(frame);
        Ok(NextFrame::Frame(frame, picture.frame))
    }
}

/// Whether a frame references no other frame.
fn is_intra(picture: &Video) -> bool {
    picture.is_key() || picture.kind() == picture::Type::I
}
