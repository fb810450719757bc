//! Reads the chosen frames by seeking. The timestamps tell which packet contains each frame.
//!
//! The decoder's output is checked against the timestamps: frames must come in their order, each exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ffmpeg_next::frame::Video;
use ffmpeg_next::picture;

use super::error::VideoError;
use super::reader::Reader;
use super::sample::{self, Times};
use super::{Frames, RgbFrame, Selection};

/// The number of frames that a decoder may hold back for reordering, besides one for each thread. A frame that
/// is later than that does not come.
const LONGEST_DELAY: usize = 64;

/// The number of frames decoded to verify a doubtful order. Covers several groups of pictures.
const LOOK: usize = 64;

/// Reads the chosen frames. `order` lists the packet of each frame. Returns `None` if the decoder's output
/// contradicts it.
pub(super) fn read(
    reader: &mut Reader<'_>,
    order: &[u32],
    selection: &Selection,
) -> Result<Option<Frames>, VideoError> {
    let mut run = Run::new(reader, order.to_vec());
    if reader.index.is_doubtful && !run.look(reader)? {
        return Ok(None);
    }
    // Runs at most twice: with the last packet and without it.
    'all: loop {
        let indices = run.choose(reader, selection)?;
        run.wanted = indices.iter().copied().collect();
        reader.check_clip(run.wanted.len())?;
        for frame in run.wanted.clone() {
            match run.obtain(reader, frame)? {
                Outcome::Found => {}
                Outcome::Contradicted => return Ok(None),
                Outcome::Skipped if reader.is_last(run.order[frame] as usize) => {
                    // The file is cut short there.
                    run.leave_out(frame);
                    continue 'all;
                }
                Outcome::Skipped => return Err(reader.damaged(frame, run.order.len())),
            }
        }
        let frames = indices.iter().filter_map(|&frame| {
            let place = run.order.get(frame)?;
            run.found.get(place).cloned()
        });
        return Ok(Some(Frames {
            frames: frames.collect(),
            total_frames: run.order.len(),
            fps: reader.fps,
            indices,
        }));
    }
}

/// The state of reading: the frames known, requested and found.
struct Run {
    /// The packet of each frame.
    order: Vec<u32>,
    /// The frame of each packet. `usize::MAX` if it is never shown.
    frame_of: Vec<usize>,
    /// The last frame from the decoder since decoding began.
    previous: Option<usize>,
    /// Whether decoding can begin at packets flagged as key frames. Some containers flag all packets (an AVI without
    /// an index).
    keys_hold: bool,
    wanted: BTreeSet<usize>,
    /// The frames found, by packet.
    found: BTreeMap<u32, Arc<RgbFrame>>,
}

/// How the search for a frame ended.
enum Outcome {
    Found,
    /// The decoder did not return it, or returned an incomplete frame.
    Skipped,
    /// The decoder returned another frame.
    Contradicted,
}

/// The next output of the decoder.
enum Step {
    Frame(usize, Video),
    /// A frame that is not shown, or that precedes the packet at which decoding began.
    Aside,
    /// The frame with which decoding began references others.
    NoKey,
    Contradiction,
    End,
}

impl Run {
    fn new(reader: &Reader<'_>, order: Vec<u32>) -> Self {
        let mut run = Self {
            frame_of: vec![usize::MAX; reader.index.entries.len()],
            order,
            previous: None,
            keys_hold: true,
            wanted: BTreeSet::new(),
            found: BTreeMap::new(),
        };
        run.number();
        run
    }

    /// Computes `frame_of` from `order`.
    fn number(&mut self) {
        self.frame_of.fill(usize::MAX);
        for (frame, &place) in self.order.iter().enumerate() {
            self.frame_of[place as usize] = frame;
        }
    }

    fn leave_out(&mut self, frame: usize) {
        self.order.remove(frame);
        self.number();
        // The decoder is past all remaining frames.
        self.previous = Some(self.order.len());
    }

    fn choose(&self, reader: &Reader<'_>, selection: &Selection) -> Result<Vec<usize>, VideoError> {
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
        let times = Times {
            length: seconds(last) + duration,
            shown: times.into_iter().map(seconds).collect(),
            tick: reader.tick,
        };
        sample::timed_frame_indices(reader.path, &times, reader.fps, selection)
    }

    /// Decodes the beginning to verify the order. Packets before the first decoded frame are removed, because the
    /// stream is cut there. Returns `false` if the decoder's output contradicts the order.
    fn look(&mut self, reader: &mut Reader<'_>) -> Result<bool, VideoError> {
        self.go_to(reader, 0)?;
        let first = loop {
            let Some(picture) = reader.stream.next_picture()? else {
                return Ok(false);
            };
            match picture.place.map(|place| self.frame_of.get(place)) {
                Some(Some(&frame)) if frame != usize::MAX => break frame,
                Some(Some(_)) => {}
                _ => return Ok(false),
            }
        };
        reader.stream.forgive();
        self.order.drain(..first);
        self.number();
        self.previous = Some(0);
        for _ in 1..LOOK {
            match self.step(reader)? {
                Step::Frame(..) | Step::Aside => {}
                Step::NoKey | Step::Contradiction => return Ok(false),
                Step::End => break,
            }
        }
        Ok(true)
    }

    fn go_to(&mut self, reader: &mut Reader<'_>, place: usize) -> Result<(), VideoError> {
        self.previous = None;
        reader.stream.go_to(place)
    }

    /// Decodes until `frame` is found or can no longer come.
    fn obtain(&mut self, reader: &mut Reader<'_>, frame: usize) -> Result<Outcome, VideoError> {
        if self.found.contains_key(&self.order[frame]) {
            return Ok(Outcome::Found);
        }
        let place = self.order[frame] as usize;
        let from = match self.keys_hold {
            true => reader.index.start_for(place),
            false => 0,
        };
        let is_past = self.previous.is_some_and(|previous| previous >= frame);
        let mut goes_on = !is_past && reader.stream.leads_to(from);
        if !goes_on {
            self.go_to(reader, from)?;
        }
        // The number of key frames to go back for the next attempt.
        let mut back = 1;
        loop {
            let outcome = self.run_until(reader, frame)?;
            let start = reader.stream.start();
            let found = matches!(outcome, Outcome::Found);
            if !found && goes_on && start < from && reader.stream.failure().is_some() {
                // A decoder may fail permanently, for instance after a wrong frame size. Start again here.
                goes_on = false;
                self.go_to(reader, from)?;
                continue;
            }
            let damage = reader.stream.damage();
            let is_named = self.keys_hold && damage.is_met() && !damage.reaches(place);
            if found || start == 0 || is_named {
                // If the decoder reported no error, the missing frame does not exist.
                let is_damaged = reader.stream.failure().is_some();
                return Ok(match outcome {
                    Outcome::Skipped if !is_damaged => Outcome::Contradicted,
                    outcome => outcome,
                });
            }
            // The seek may have gone too far, or the damage begins earlier.
            let mut earlier = if self.keys_hold { start } else { 0 };
            for _ in 0..back {
                earlier = reader.index.key_before(earlier);
            }
            self.go_to(reader, earlier)?;
            back *= 2;
        }
    }

    /// Continues decoding until `frame` comes or can no longer come.
    fn run_until(&mut self, reader: &mut Reader<'_>, frame: usize) -> Result<Outcome, VideoError> {
        let target = self.order[frame] as usize;
        let last = target + LONGEST_DELAY + reader.limits.decoder_threads();
        let mut outcome = Outcome::Skipped;
        while !reader.stream.is_past(last) {
            let (shown, picture) = match self.step(reader)? {
                Step::Frame(shown, picture) => (shown, picture),
                Step::Aside => continue,
                Step::NoKey => {
                    self.keys_hold = false;
                    break;
                }
                Step::Contradiction => return Ok(Outcome::Contradicted),
                Step::End => break,
            };
            let place = self.order[shown];
            if self.wanted.contains(&shown)
                && !self.found.contains_key(&place)
                && !reader.is_incomplete(Some(place as usize), &picture)
                && !reader.stream.damage().reaches(place as usize)
            {
                let picture = reader.convert((shown, self.order.len()), &picture)?;
                self.found.insert(place, picture);
                if shown == frame {
                    outcome = Outcome::Found;
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
    fn step(&mut self, reader: &mut Reader<'_>) -> Result<Step, VideoError> {
        let Some(picture) = reader.stream.next_picture()? else {
            let is_whole = self
                .previous
                .is_none_or(|last| last + 1 == self.order.len());
            return Ok(if is_whole || reader.stream.failure().is_some() {
                Step::End
            } else {
                Step::Contradiction
            });
        };
        let Some(place) = picture.place.filter(|&place| place < self.frame_of.len()) else {
            return Ok(Step::Contradiction);
        };
        let frame = self.frame_of[place];
        let start = reader.stream.start();
        let entries = &reader.index.entries;
        if frame == usize::MAX {
            // A packet that was expected to produce no frame.
            let is_back = !entries[place].is_hidden() && !reader.is_last(place);
            return Ok(if is_back {
                Step::Contradiction
            } else {
                Step::Aside
            });
        }
        if start > 0 && entries[place].pts < entries[start].pts {
            return Ok(Step::Aside);
        }
        let next = match self.previous {
            Some(previous) => previous + 1,
            None if start == 0 => 0,
            None if place == start && is_intra(&picture.frame) => frame,
            None => return Ok(Step::NoKey),
        };
        // Damage may drop frames, but never repeats one.
        if frame < next || frame > next && reader.stream.failure().is_none() {
            return Ok(Step::Contradiction);
        }
        self.previous = Some(frame);
        Ok(Step::Frame(frame, picture.frame))
    }
}

/// Whether a frame references no other frame.
fn is_intra(picture: &Video) -> bool {
    picture.is_key() || picture.kind() == picture::Type::I
}
