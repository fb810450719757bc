//! Decodes a video stream from any key frame.
//!
//! Timestamps are used for seeking, but not to identify frames: containers omit them, repeat them or change them after
//! a seek. Instead, the timestamp of every packet is set to its place in the [`Index`] before it goes to the decoder,
//! so each decoded frame has the place of its packet.

use std::path::Path;

use ffmpeg_next::frame::{Video, side_data};
use ffmpeg_next::{Error, Packet, decoder};

use super::container::{self, Container};
use super::damage::Damage;
use super::error::VideoError;
use super::ffmpeg_log;
use super::fill_check;
use super::index::{Entry, Index};
use super::limits::ReadLimits;
use super::orientation::Orientation;

/// The number of packets up to which decoding is faster than seeking.
const SHORT_GAP: usize = 4;

/// The number of errors about one packet after which decoding stops.
const MAX_ERRORS: usize = 1000;

/// A decoded frame with the place of its packet in the index.
pub(super) struct DecodedFrame {
    pub(super) place: Option<usize>,
    pub(super) frame: Video,
}

/// A decoder and its position in the stream.
pub(super) struct FrameStream<'a> {
    path: &'a Path,
    limits: &'a ReadLimits,
    index: &'a Index,
    container: Container,
    decoder: decoder::Video,
    /// The next packet to read.
    next: usize,
    /// The packet at which decoding last began.
    start: usize,
    /// Packet `next - 1`, if it was read but not yet sent to the decoder.
    pending: Option<Packet>,
    /// The decoder has returned its last frame. No more come before a seek.
    drained: bool,
    /// Packets are read after a seek and are compared with the index.
    after_seek: bool,
    /// A seek in this file has led to the wrong packet.
    seeks_fail: bool,
    /// The last error of the decoder since decoding began.
    failure: Option<Error>,
    /// The number of errors since the last packet.
    errors: usize,
    /// The damage found since decoding began.
    damage: Damage<'a>,
    /// The errors logged in this thread when the decoder was opened.
    errors_at_open: u64,
    /// The total number of decoded pixels.
    decoded: u128,
}

impl<'a> FrameStream<'a> {
    /// Creates a stream whose packets were read to the end. Call [`Self::seek_to`] first.
    pub(super) fn new(
        path: &'a Path,
        limits: &'a ReadLimits,
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
            after_seek: false,
            seeks_fail: false,
            failure: None,
            errors: 0,
            damage: Damage::new(index, end),
            errors_at_open: ffmpeg_log::thread_errors(),
            decoded: 0,
        }
    }

    /// Returns the packet at which decoding last began. If it is 0, no references can be missing.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Clears the last error of the decoder.
    pub(super) fn clear_failure(&mut self) {
        self.failure = None;
    }

    /// Returns the last error of the decoder since decoding began.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure
    }

    /// Returns the damage found since decoding began.
    pub(super) fn damage(&mut self) -> &mut Damage<'a> {
        &mut self.damage
    }

    /// Whether the decoder filled the whole frame.
    pub(super) fn is_filled(&self, frame: &Video) -> bool {
        !fill_check::is_needed(self.decoder.id()) || fill_check::is_filled(frame)
    }

    /// Returns the orientation of a frame: its own or that of the container.
    pub(super) fn orientation(&self, frame: &Video) -> Orientation {
        frame
            .side_data(side_data::Type::DisplayMatrix)
            .map_or(self.container.orientation, |data| {
                Orientation::from_display_matrix(data.data())
            })
    }

    /// Whether continuing from here gives the same frames as a seek to packet `key`, at no higher cost.
    pub(super) fn can_continue_to(&self, key: usize) -> bool {
        !self.drained && (self.start..=self.next + SHORT_GAP).contains(&key)
    }

    /// Whether packet `last` was sent to the decoder, and more may follow.
    pub(super) fn is_past(&self, last: usize) -> bool {
        self.next > last && !self.drained
    }

    /// Returns the next frame from the decoder in presentation order, or `None` at the end.
    pub(super) fn next_frame(&mut self) -> Result<Option<DecodedFrame>, VideoError> {
        while !self.drained {
            let mut frame = Video::empty();
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {
                    self.decoded += u128::from(frame.width()) * u128::from(frame.height());
                    self.limits.check_decoded(self.path, self.decoded)?;
                    let place = frame.pts().and_then(|pts| usize::try_from(pts).ok());
                    return Ok(Some(DecodedFrame { place, frame }));
                }
                Err(Error::Other {
                    errno: ffmpeg_next::error::EAGAIN,
                }) => self.feed()?,
                Err(Error::Eof) => self.drained = true,
                Err(failure) => self.record_decoder_error(failure)?,
            }
        }
        Ok(None)
    }

    /// Sends the decoder one more packet or the end of the stream.
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
                self.damage.packet_sent(place);
                self.decoder.send_packet(&packet)
            }
            None => self.decoder.send_eof(),
        };
        match sent {
            Ok(()) | Err(Error::Eof) => {}
            Err(failure) => self.record_decoder_error(failure)?,
        }
        Ok(())
    }

    /// Records an error of the decoder. Running out of memory is returned as an error, because the following frames
    /// would be incomplete.
    fn record_decoder_error(&mut self, failure: Error) -> Result<(), VideoError> {
        let no_memory = Error::Other {
            errno: ffmpeg_next::error::ENOMEM,
        };
        if failure == no_memory {
            return Err(VideoError::ffmpeg(self.path, "decoding", failure));
        }
        self.damage.mark_last_damaged();
        self.record_error(failure);
        Ok(())
    }

    /// Records an error and stops decoding after too many.
    pub(super) fn record_error(&mut self, failure: Error) {
        self.failure = Some(failure);
        self.errors += 1;
        if self.errors > MAX_ERRORS {
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
                // If the file is cut in its last packet, some containers return the incomplete packet only
                // on the first read.
                Err(failure) if self.next + 1 == self.index.entries.len() => {
                    self.record_error(failure);
                    return Ok(None);
                }
                // The packets were readable when the index was built, so the seek led to a wrong position.
                Err(_) if self.after_seek => {
                    self.seeks_fail = true;
                    return Ok(None);
                }
                Err(source) => {
                    let operation = "reading the video stream";
                    return Err(VideoError::ffmpeg(self.path, operation, source));
                }
            }
            if packet.stream() != self.container.stream {
                continue;
            }
            if self.differs_from_index(&packet) {
                return Ok(None);
            }
            self.next += 1;
            self.errors = 0;
            return Ok(Some(packet));
        }
    }

    /// Whether the packet differs from the one in the index. In some containers, the numbering is off by one or more
    /// packets after a seek. The file is then read without seeking.
    fn differs_from_index(&mut self, packet: &Packet) -> bool {
        let known = self.index.entries.get(self.next);
        let differs_from_index =
            self.after_seek && !known.is_some_and(|known| known.is_same(&Entry::of(packet)));
        self.seeks_fail |= differs_from_index;
        differs_from_index
    }

    /// Makes packet `key`, or an earlier key frame, the next packet for the decoder.
    pub(super) fn seek_to(&mut self, key: usize) -> Result<(), VideoError> {
        // Without a complete key frame at the start, decoding depends on the decoder's memory. It must then begin
        // empty, as in every player.
        let begins_whole = self.index.entries[0].is_key() && self.container.keys_are_reliable;
        if key == 0 && (!begins_whole || self.has_logged_errors()) {
            return self.rewind();
        }
        let mut from = key;
        for _ in 0..if self.seeks_fail { 0 } else { 2 } {
            let entry = self.index.entries[from];
            // Containers index their key frames by one of these times.
            for time in [entry.pts, entry.dts].into_iter().flatten() {
                if self.seek(time, from)? {
                    return Ok(());
                }
            }
            from = self.index.key_before(from);
        }
        self.rewind()
    }

    /// Seeks to `time` and reads on to packet `key`. Returns whether that succeeded.
    fn seek(&mut self, time: i64, key: usize) -> Result<bool, VideoError> {
        if self.container.seek(time).is_err() {
            return Ok(false);
        }
        if self.has_logged_errors() {
            self.open_decoder()?;
        } else {
            self.decoder.flush();
        }
        self.restart();
        self.after_seek = false;
        let Ok(Some(mut packet)) = self.next_packet() else {
            return Ok(false);
        };
        self.after_seek = true;
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
        self.damage = Damage::new(self.index, key);
        self.pending = Some(packet);
        Ok(true)
    }

    /// Reopens the file and the decoder, which is the only way back to the beginning that works for every container.
    pub(super) fn rewind(&mut self) -> Result<(), VideoError> {
        self.container = container::open(self.path, self.limits)?;
        self.open_decoder()?;
        self.restart();
        self.after_seek = false;
        Ok(())
    }

    fn open_decoder(&mut self) -> Result<(), VideoError> {
        self.decoder = self.container.decoder(self.path, self.limits)?;
        self.errors_at_open = ffmpeg_log::thread_errors();
        Ok(())
    }

    /// Whether the decoder logged errors. Their effects may remain in its memory after a flush.
    fn has_logged_errors(&self) -> bool {
        ffmpeg_log::thread_errors() > self.errors_at_open
    }

    fn restart(&mut self) {
        self.next = 0;
        self.start = 0;
        self.pending = None;
        self.drained = false;
        self.failure = None;
        self.damage = Damage::new(self.index, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failed seek falls back to decoding from the start, which is exact but slow. Only this test detects it.
    #[test]
    fn seeking_leads_directly_to_key_frames() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/video/");
        for name in [
            "bframes.mp4",
            "editlist.mp4",
            "hevc.mp4",
            "nopts.avi",
            "opengop.mkv",
            "vp9.webm",
        ] {
            let (path, limits) = (Path::new(folder).join(name), ReadLimits::default());
            let mut container = container::open(&path, &limits).unwrap();
            let decoder = container.decoder(&path, &limits).unwrap();
            let index = Index::scan(&path, &mut container, &limits).unwrap();
            let key = index.key_before(index.entries.len());
            assert!(key > 5, "{name}: the last key frame is {key}");
            let mut stream = FrameStream::new(&path, &limits, &index, container, decoder);
            for key in [key, 0, key] {
                stream.seek_to(key).unwrap();
                assert_eq!((stream.start(), stream.seeks_fail), (key, false), "{name}");
                assert!(stream.after_seek, "{name}: reopened to get to {key}");
                let picture = stream.next_frame().unwrap().unwrap();
                assert!(
                    picture.place >= Some(key),
                    "{name}: {:?} after {key}",
                    picture.place
                );
            }
        }
    }
}
