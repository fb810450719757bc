//! Converts options of the command line to those of the library.

use super::BadArgument;
use crate::args::{
    Global,
    answer::Answer,
    clip::{Clip, VideoLimits},
};
use merv_host::{GenerateOptions, LoadOptions, Sampling, VideoOptions, generate, hub, video};

/// Returns the options for generating an answer about a clip.
///
/// # Errors
///
/// When options of the clip contradict each other.
pub(super) fn generate(clip: &Clip, answer: &Answer) -> Result<GenerateOptions, BadArgument> {
    if let (Some(start), Some(end)) = (clip.start, clip.end)
        && end < start
    {
        return Err(BadArgument::new(format!(
            "--end {end} is before --start {start}\n  do: swap them, or omit one of them"
        )));
    }
    // A missing file is reported when it is opened.
    if clip.folder_fps.is_some() && clip.video.exists() && !clip.video.is_dir() {
        return Err(BadArgument::new(format!(
            "--folder-fps is for a folder of images, but {} is a file\n  do: omit it",
            clip.video.display()
        )));
    }
    Ok(GenerateOptions {
        video: VideoOptions {
            start: clip.start,
            end: clip.end,
            folder_fps: clip.folder_fps,
            limits: limits(&clip.limits),
            ..VideoOptions::default()
        },
        sampling: sampling(answer),
        limits: answer_limits(answer),
        dump: None,
    })
}

/// Returns the sampling options.
pub(super) fn sampling(answer: &Answer) -> Sampling {
    Sampling {
        temperature: answer.temperature,
        top_p: answer.top_p,
        top_k: answer.top_k,
        seed: answer.seed,
    }
}

/// Returns the minimum and maximum length of an answer.
pub(super) fn answer_limits(answer: &Answer) -> generate::ReplyLimits {
    generate::ReplyLimits {
        max_new_tokens: answer.max_new_tokens,
        min_length: answer.min_length,
        min_new_tokens: answer.min_new_tokens,
    }
}

/// Returns the limits on video files.
pub(super) fn limits(args: &VideoLimits) -> video::ReadLimits {
    let default = video::ReadLimits::default();
    video::ReadLimits {
        max_pixels: args.max_pixels.unwrap_or(default.max_pixels),
        max_frames: args.max_frames.unwrap_or(default.max_frames),
        max_clip_bytes: args.max_clip_bytes.unwrap_or(default.max_clip_bytes),
        max_image_bytes: args.max_image_bytes.unwrap_or(default.max_image_bytes),
        max_animation_pixels: args
            .max_animation_pixels
            .unwrap_or(default.max_animation_pixels),
        max_animation_bytes: args
            .max_animation_bytes
            .unwrap_or(default.max_animation_bytes),
        max_pipe_bytes: args.max_pipe_bytes.unwrap_or(default.max_pipe_bytes),
        max_decoded_pixels: args
            .max_decoded_pixels
            .unwrap_or(default.max_decoded_pixels),
        ..default
    }
}

/// Returns the options for loading models.
pub(super) fn load_options(global: &Global) -> LoadOptions {
    let hub = hub::Settings::from_env();
    LoadOptions {
        plugin_folders: global.plugin_dir.clone(),
        threads: global.threads.map(usize::from),
        device: global.device,
        backend: global.backend.clone(),
        precision: global.precision,
        precision_option: None,
        hub: hub::Settings {
            offline: hub.offline || global.offline,
            ..hub
        },
    }
}
