//! From the command line's settings to the library's.

use crate::args::{answer::Answer, clip::Clip};
use merv_host::{GenerateOptions, Sampling, VideoOptions, generate, video};

/// How the command line wants an answer about a clip.
pub(super) fn generate(clip: &Clip, answer: &Answer) -> GenerateOptions {
    let limits = video::Limits::default();
    GenerateOptions {
        video: VideoOptions {
            start: clip.start,
            end: clip.end,
            limits: video::Limits {
                max_pixels: clip.limits.max_pixels.unwrap_or(limits.max_pixels),
                max_frames: clip.limits.max_frames.unwrap_or(limits.max_frames),
                max_clip_bytes: clip.limits.max_clip_bytes.unwrap_or(limits.max_clip_bytes),
                max_image_bytes: clip
                    .limits
                    .max_image_bytes
                    .unwrap_or(limits.max_image_bytes),
                ..limits
            },
        },
        sampling: Sampling {
            temperature: answer.temperature,
            top_p: answer.top_p,
            top_k: answer.top_k,
            seed: answer.seed,
        },
        limits: generate::Limits {
            max_new_tokens: answer.max_new_tokens,
            min_length: answer.min_length,
            min_new_tokens: answer.min_new_tokens,
        },
        dump: None,
    }
}
