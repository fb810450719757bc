//! A video stream as pictures: packets in, from any key frame on, and decoded pictures out.
//!
//! Time stamps say where to seek, but not which picture came out: containers leave them away, repeat
//! them or change them after a seek. So every packet is stamped with its place in the [`Index`]
//! before it goes to the decoder, and each picture comes out with the place of its packet.

use std::path::Path;

use ffmpeg_next::frame::{Video, side_data};
use ffmpeg_next::{Error, Packet, decoder};

use super::complaints;
use super::container::{self, Container};
use super::damage::Damage;
use super::error::VideoError;
use super::index::{Entry, Index};
use super::limits::Limits;
use super::orientation::Orientation;
use super::painting;

/// Packets that are sooner decoded than jumped over.
const SHORT_GAP: usize = 4;

/// Errors about one packet after which a decoder is given up.
const MOST_COMPLAINTS: usize = 1000;

/// A picture as it leaves the decoder, with the place of its packet in the index.
pub(super) struct Picture {
    pub(super) place: Option<usize>,
    pub(super) frame: Video,
}

/// A decoder and where it stands.
pub(super) struct Stream<'a> {
    path: &'a Path,
    limits: &'a Limits,
    index: &'a Index,
    container: Container,
    decoder: decoder::Video,
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
    /// How often it complained since it was last given a packet.
    complaints: usize,
    /// What it met since decoding began.
    damage: Damage<'a>,
    /// The complaints of this thread when the decoder was opened.
    heard_at_open: u64,
    /// Pixels of all pictures that the decoder has given.
    decoded: u128,
}

impl<'a> Stream<'a> {
    /// A stream whose packets were read to the end; [`Self::go_to`] comes first.
    pub(super) fn new(
        path: &'a Path,
        limits: &'a Limits,
        index: &'a Index,
        container: Container,
        decoder: decoder::Video,
    ) -> Self {
        let end = index.entries.len();
        Self {
            path,
            limits,
            index,
            container,
            decoder,
            next: end,
            start: end,
            pending: None,
            drained: true,
            placed: false,
            no_seeking: false,
            failure: None,
            complaints: 0,
            damage: Damage::none(index, end),
            heard_at_open: complaints::count_here(),
            decoded: 0,
        }
    }

    /// The packet at which decoding last began; 0 when nothing can be missing.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Leaves aside what the decoder complained of so far.
    pub(super) fn forgive(&mut self) {
        self.failure = None;
    }

    /// What the decoder last complained of, since decoding began.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure
    }

    /// What damage the decoder met since decoding began.
    pub(super) fn damage(&mut self) -> &mut Damage<'a> {
        &mut self.damage
    }

    /// Whether the decoder has painted all of a picture.
    pub(super) fn is_painted(&self, frame: &Video) -> bool {
        !painting::is_needed(self.decoder.id()) || painting::is_complete(frame)
    }

    /// How a picture is to be turned and mirrored: as it says itself, else as the container says.
    pub(super) fn orientation(&self, frame: &Video) -> Orientation {
        frame
            .side_data(side_data::Type::DisplayMatrix)
            .map_or(self.container.orientation, |data| {
                Orientation::from_display_matrix(data.data())
            })
    }

    /// Whether going on from here leads to what packet `key` leads to, and no later than a seek.
    pub(super) fn leads_to(&self, key: usize) -> bool {
        !self.drained && (self.start..=self.next + SHORT_GAP).contains(&key)
    }

    /// Whether packet `last` is with the decoder, and more may follow.
    pub(super) fn is_past(&self, last: usize) -> bool {
        self.next > last && !self.drained
    }

    /// The next picture from the decoder, in the order of presentation; `None` at the end.
    pub(super) fn next_picture(&mut self) -> Result<Option<Picture>, VideoError> {
        while !self.drained {
            let mut frame = Video::empty();
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {
                    self.decoded += u128::from(frame.width()) * u128::from(frame.height());
                    self.limits.check_decoded(self.path, self.decoded)?;
                    let place = frame.pts().and_then(|pts| usize::try_from(pts).ok());
                    return Ok(Some(Picture { place, frame }));
                }
                Err(Error::Other {
                    errno: ffmpeg_next::error::EAGAIN,
                }) => self.feed()?,
                Err(Error::Eof) => self.drained = true,
                Err(failure) => self.complain(failure)?,
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
                let place = self.next - 1;
                packet.set_pts(Some(place as i64));
                packet.set_dts(None);
                self.damage.give(place);
                self.decoder.send_packet(&packet)
            }
            None => self.decoder.send_eof(),
        };
        match sent {
            Ok(()) | Err(Error::Eof) => {}
            Err(failure) => self.complain(failure)?,
        }
        Ok(())
    }

    /// Notes an error of the decoder, unless it is that memory ran out: then the pictures that follow lack
    /// what was not decoded.
    fn complain(&mut self, failure: Error) -> Result<(), VideoError> {
        let no_memory = Error::Other {
            errno: ffmpeg_next::error::ENOMEM,
        };
        if failure == no_memory {
            return Err(VideoError::ffmpeg(self.path, "decoding", failure));
        }
        self.damage.note_in_last();
        self.fail(failure);
        Ok(())
    }

    /// Notes an error, and gives the decoder up after too many.
    pub(super) fn fail(&mut self, failure: Error) {
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
                // Where the file is cut in its last packet, some containers give what there is of it
                // only when they are first read.
                Err(failure) if self.next + 1 == self.index.entries.len() => {
                    self.fail(failure);
                    return Ok(None);
                }
                // The index was read from the start: only where a seek led is this not to be read.
                Err(_) if self.placed => {
                    self.no_seeking = true;
                    return Ok(None);
                }
                Err(source) => {
                    let doing = "reading the video stream";
                    return Err(VideoError::ffmpeg(self.path, doing, source));
                }
            }
            if packet.stream() != self.container.stream {
                continue;
            }
            if self.astray(&packet) {
                return Ok(None);
            }
            self.next += 1;
            self.complaints = 0;
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
    pub(super) fn go_to(&mut self, key: usize) -> Result<(), VideoError> {
        // What begins without a whole key frame is decoded on top of what the decoder has in its memory:
        // it begins with nothing, as in every player.
        let begins_whole = self.index.entries[0].is_key() && self.container.keys_hold;
        if key == 0 && (!begins_whole || self.is_tainted()) {
            return self.rewind();
        }
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
        if self.is_tainted() {
            self.open_decoder()?;
        } else {
            self.decoder.flush();
        }
        self.restart();
        self.placed = false;
        let Ok(Some(mut packet)) = self.next_packet() else {
            return Ok(false);
        };
        self.placed = true;
        let Some(place) = self.index.locate(&Entry::of(&packet)) else {
            return Ok(false);
        };
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
        self.damage = Damage::none(self.index, key);
        self.pending = Some(packet);
        Ok(true)
    }

    /// Opens the file and a decoder anew: the one way to its beginning that works for every container.
    pub(super) fn rewind(&mut self) -> Result<(), VideoError> {
        self.container = container::open(self.path, self.limits)?;
        self.open_decoder()?;
        self.restart();
        self.placed = false;
        Ok(())
    }

    fn open_decoder(&mut self) -> Result<(), VideoError> {
        self.decoder = self.container.decoder(self.path, self.limits)?;
        self.heard_at_open = complaints::count_here();
        Ok(())
    }

    /// Whether the decoder met damage, which may stay in its memory when it is flushed.
    fn is_tainted(&self) -> bool {
        complaints::count_here() > self.heard_at_open
    }

    fn restart(&mut self) {
        self.next = 0;
        self.start = 0;
        self.pending = None;
        self.drained = false;
        self.failure = None;
        self.damage = Damage::none(self.index, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeking that fails falls back to decoding from the start, which is exact but slow: only here
    /// does it show.
    #[test]
    fn seeking_leads_straight_to_key_frames() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/video/");
        for name in [
            "bframes.mp4",
            "editlist.mp4",
            "hevc.mp4",
            "nopts.avi",
            "opengop.mkv",
            "vp9.webm",
        ] {
            let (path, limits) = (Path::new(folder).join(name), Limits::default());
            let mut container = container::open(&path, &limits).unwrap();
            let decoder = container.decoder(&path, &limits).unwrap();
            let index = Index::scan(&path, &mut container, &limits).unwrap();
            let key = index.key_before(index.entries.len());
            assert!(key > 5, "{name}: the last key frame is {key}");
            let mut stream = Stream::new(&path, &limits, &index, container, decoder);
            for key in [key, 0, key] {
                stream.go_to(key).unwrap();
                assert_eq!((stream.start(), stream.no_seeking), (key, false), "{name}");
                assert!(stream.placed, "{name}: opened anew to get to {key}");
                let picture = stream.next_picture().unwrap().unwrap();
                assert!(
                    picture.place >= Some(key),
                    "{name}: {:?} after {key}",
                    picture.place
                );
            }
        }
    }
}
