//! Limits on the memory and work for one file. Files are untrusted and headers may be wrong, so each limit is checked
//! before the memory is allocated.

use std::path::Path;

use super::error::VideoError;

/// Limits for reading one clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Pixels of one frame (width × height). 40 million by default, slightly more than 8K.
    pub max_pixels: u64,
    /// Frames in the whole file. 10 million by default: 46 hours at 60 frames per second.
    pub max_frames: u64,
    /// Total bytes of the chosen frames as RGB. Repeated frames count once. 2 GiB by default.
    pub max_clip_bytes: u64,
    /// Size of one image file, in bytes. 256 MiB by default.
    pub max_image_bytes: u64,
    /// Pixels of an animation (GIF, APNG, WebP) to compute for the chosen frames. 2 billion by default: 1,000
    /// frames of 1920×1080 that depend on one another.
    pub max_animation_pixels: u64,
    /// Total bytes of the chosen frames of an animation as RGB. The limit is separate because tiny files can
    /// have large frames. 512 MiB by default: 21 frames of 3840×2160.
    pub max_animation_bytes: u64,
    /// Pixels of a video to decode for the chosen frames. 100 billion by default: 48,000 frames of 1920×1080.
    pub max_decoded_pixels: u64,
    /// Bytes from a pipe, which are copied to a temporary file. 4 GiB by default.
    pub max_pipe_bytes: u64,
    /// Threads of the decoder. 0 means one for each core.
    pub threads: usize,
}

impl Default for ReadLimits {
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

impl ReadLimits {
    /// Refuses a frame without pixels or with more than `max_pixels`.
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

    /// Refuses a frame with more than `max_pixels`.
    pub(super) fn check_pixels(&self, path: &Path, w: u64, h: u64) -> Result<(), VideoError> {
        let found = u128::from(w) * u128::from(h);
        check(
            path,
            "pixels of one frame",
            found,
            self.max_pixels,
            "--max-pixels",
        )
    }

    /// Refuses a file with more than `max_frames`.
    pub(super) fn check_frames(&self, path: &Path, found: u64) -> Result<(), VideoError> {
        check(
            path,
            "frames in the file",
            found.into(),
            self.max_frames,
            "--max-frames",
        )
    }

    /// Refuses `frames` distinct frames of `w`×`h` RGB pixels if their total size exceeds `max_clip_bytes`.
    pub(super) fn check_clip(
        &self,
        path: &Path,
        frames: u64,
        w: u64,
        h: u64,
    ) -> Result<(), VideoError> {
        self.check_clip_bytes(path, rgb_bytes(frames, w, h))
    }

    /// Refuses chosen frames whose total size exceeds `max_clip_bytes`.
    pub(super) fn check_clip_bytes(&self, path: &Path, found: u128) -> Result<(), VideoError> {
        let what = "total bytes of the chosen frames";
        check(path, what, found, self.max_clip_bytes, "--max-clip-bytes")
    }

    /// Refuses one more frame of `size` (width, height) in addition to the `taken` bytes of the others.
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

    /// Refuses `frames` distinct frames of an animation with `w`×`h` RGB pixels if their total size exceeds
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
            "total bytes of the chosen frames of the animation",
            rgb_bytes(frames, w, h),
            self.max_animation_bytes,
            "--max-animation-bytes",
        )
    }

    /// Refuses an animation whose chosen frames require computing more than `max_animation_pixels`.
    pub(super) fn check_animation(&self, path: &Path, found: u128) -> Result<(), VideoError> {
        check(
            path,
            "pixels of the animation to compute",
            found,
            self.max_animation_pixels,
            "--max-animation-pixels",
        )
    }

    /// Refuses a video whose chosen frames require decoding more than `max_decoded_pixels`.
    pub(super) fn check_decoded(&self, path: &Path, found: u128) -> Result<(), VideoError> {
        check(
            path,
            "pixels of the video to decode",
            found,
            self.max_decoded_pixels,
            "--max-decoded-pixels",
        )
    }

    /// Refuses an image file with more than `max_image_bytes`.
    pub(super) fn check_image_bytes(&self, path: &Path, found: u64) -> Result<(), VideoError> {
        let what = "bytes of the image file";
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
        let what = "bytes from the pipe, at least";
        check(
            path,
            what,
            found.into(),
            self.max_pipe_bytes,
            "--max-pipe-bytes",
        )
    }

    /// Returns the number of decoder threads, at least 1 and at most 16, which bounds the memory for their buffers.
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

/// Returns the size in bytes of `frames` frames of `w`×`h` pixels.
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
