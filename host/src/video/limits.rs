//! How much memory and work one file may claim. Files come from strangers, and headers lie: each
//! limit is checked before the memory it guards is allocated.

use std::path::Path;

use super::error::VideoError;

/// What reading one clip may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of one frame (width × height). 40 million by default: 8K and a little more.
    pub max_pixels: u64,
    /// Frames in the whole file, wanted or not. 10 million by default: 46 hours at 60 per second.
    pub max_frames: u64,
    /// Bytes of all chosen frames together, as RGB, a repeated frame counted once. 2 GiB by default.
    pub max_clip_bytes: u64,
    /// Size of one image file, in bytes. 256 MiB by default.
    pub max_image_bytes: u64,
    /// Pixels of an animation (GIF, APNG, WebP) that must be computed for the chosen frames. 2
    /// billion by default: 1,000 frames of 1920×1080 that all lean on one another.
    pub max_animation_pixels: u64,
    /// Bytes of the chosen frames of an animation together, as RGB: its file may be tiny. 512 MiB by
    /// default: 21 frames of 3840×2160.
    pub max_animation_bytes: u64,
    /// Pixels of a video that must be decoded for the chosen frames. 100 billion by default: 48,000
    /// frames of 1920×1080 without a key frame between.
    pub max_decoded_pixels: u64,
    /// What may come through a pipe, in bytes: it is copied to a temporary file. 4 GiB by default.
    pub max_pipe_bytes: u64,
    /// Threads of the decoder; 0 means one a core.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 40_000_000,
            max_frames: 10_000_000,
            max_clip_bytes: 2 << 30,
            max_image_bytes: 256 << 20,
            max_animation_pixels: 2_000_000_000,
            max_animation_bytes: 512 << 20,
            max_decoded_pixels: 100_000_000_000,
            max_pipe_bytes: 4 << 30,
            threads: 0,
        }
    }
}

impl Limits {
    /// Refuses a picture without pixels, and one of more than `max_pixels`.
    pub(super) fn check_size(&self, path: &Path, w: u64, h: u64) -> Result<(), VideoError> {
        match w.min(h) {
            0 => Err(VideoError::NoPixels {
                path: path.to_owned(),
                width: w,
                height: h,
            }),
            _ => self.check_pixels(path, w, h),
        }
    }

    /// Refuses a frame of more than `max_pixels`.
    pub(super) fn check_pixels(&self, path: &Path, w: u64, h: u64) -> Result<(), VideoError> {
        let found = u128::from(w) * u128::from(h);
        check(
            path,
            "the pixels of one frame",
            found,
            self.max_pixels,
            "--max-pixels",
        )
    }

    /// Refuses a file of more than `max_frames`.
    pub(super) fn check_frames(&self, path: &Path, found: u64) -> Result<(), VideoError> {
        check(
            path,
            "the frames in the file",
            found.into(),
            self.max_frames,
            "--max-frames",
        )
    }

    /// Refuses `frames` distinct frames of `w`×`h` RGB pixels that together pass `max_clip_bytes`.
    pub(super) fn check_clip(
        &self,
        path: &Path,
        frames: u64,
        w: u64,
        h: u64,
    ) -> Result<(), VideoError> {
        self.check_clip_bytes(path, rgb_bytes(frames, w, h))
    }

    /// Refuses chosen frames that together pass `max_clip_bytes`.
    pub(super) fn check_clip_bytes(&self, path: &Path, found: u128) -> Result<(), VideoError> {
        let what = "the bytes of the chosen frames together";
        check(path, what, found, self.max_clip_bytes, "--max-clip-bytes")
    }

    /// Refuses one more picture, of `size` (width, height), beside the `taken` bytes of others.
    pub(super) fn check_picture(
        &self,
        path: &Path,
        taken: u128,
        size: (u32, u32),
    ) -> Result<(), VideoError> {
        self.check_size(path, size.0.into(), size.1.into())?;
        let picture = u128::from(size.0) * u128::from(size.1) * 3;
        self.check_clip_bytes(path, taken.saturating_add(picture))
    }

    /// Refuses `frames` distinct frames of an animation, `w`×`h` RGB pixels each, that together pass
    /// `max_animation_bytes`.
    pub(super) fn check_animation_frames(
        &self,
        path: &Path,
        frames: u64,
        w: u64,
        h: u64,
    ) -> Result<(), VideoError> {
        self.check_clip(path, frames, w, h)?;
        check(
            path,
            "the bytes of the animation's chosen frames together",
            rgb_bytes(frames, w, h),
            self.max_animation_bytes,
            "--max-animation-bytes",
        )
    }

    /// Refuses an animation whose chosen frames take more than `max_animation_pixels`.
    pub(super) fn check_animation(&self, path: &Path, found: u128) -> Result<(), VideoError> {
        check(
            path,
            "the pixels of the animation to compute",
            found,
            self.max_animation_pixels,
            "--max-animation-pixels",
        )
    }

    /// Refuses a video whose chosen frames take more than `max_decoded_pixels`.
    pub(super) fn check_decoded(&self, path: &Path, found: u128) -> Result<(), VideoError> {
        check(
            path,
            "the pixels of the video to decode",
            found,
            self.max_decoded_pixels,
            "--max-decoded-pixels",
        )
    }

    /// Refuses an image file of more than `max_image_bytes`.
    pub(super) fn check_image_bytes(&self, path: &Path, found: u64) -> Result<(), VideoError> {
        let what = "the bytes of the image file";
        check(
            path,
            what,
            found.into(),
            self.max_image_bytes,
            "--max-image-bytes",
        )
    }

    /// Refuses more than `max_pipe_bytes` from a pipe.
    pub(super) fn check_pipe(&self, path: &Path, found: u64) -> Result<(), VideoError> {
        let what = "the bytes that came through the pipe, at least";
        check(
            path,
            what,
            found.into(),
            self.max_pipe_bytes,
            "--max-pipe-bytes",
        )
    }

    /// The decoder's thread count: never 0, and never so many that their buffers matter.
    pub(super) fn decoder_threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads == 0 {
            all()
        } else {
            self.threads
        }
        .clamp(1, 16)
    }
}

/// What `frames` pictures of `w`×`h` take.
fn rgb_bytes(frames: u64, w: u64, h: u64) -> u128 {
    u128::from(frames).saturating_mul(u128::from(w) * u128::from(h) * 3)
}

fn check(
    path: &Path,
    what: &'static str,
    found: u128,
    limit: u64,
    flag: &'static str,
) -> Result<(), VideoError> {
    if found <= u128::from(limit) {
        return Ok(());
    }
    Err(VideoError::OverLimit {
        path: path.to_owned(),
        what,
        found: found.to_string(),
        limit,
        flag,
    })
}
