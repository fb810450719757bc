//! The clips that the questions of a chunk are about.

use super::{
    Question,
    dataset::{Dataset, Window},
    videos::Videos,
};
use std::{collections::HashMap, path::PathBuf};

/// A part of a video, and the questions about it.
pub(super) struct Clip<'q> {
    pub video: &'q str,
    pub path: PathBuf,
    pub window: Window,
    pub questions: Vec<&'q Question>,
}

/// Returns the key of a question's clip. Two questions are about the same clip if their keys are equal.
pub(super) fn clip_key(question: &Question) -> (&str, Option<u64>, Option<u64>, Option<i64>) {
    let Window {
        start,
        end,
        end_frame,
    } = question.window;
    let bits = |time: Option<f64>| time.map(f64::to_bits);
    (&question.video_name, bits(start), bits(end), end_frame)
}

/// The name of a video that was not found, the questions about it, and the reason.
pub(super) type MissingClip<'q> = (&'q str, Vec<&'q Question>, String);

/// Returns the clips in the order of their first questions, and the clips whose video was not found.
pub(super) fn clips<'q>(
    dataset: &Dataset,
    questions: impl Iterator<Item = &'q Question>,
) -> (Vec<Clip<'q>>, Vec<MissingClip<'q>>) {
    let mut videos = Videos::new(&dataset.folder);
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut clips: Vec<(Result<PathBuf, String>, Clip<'q>)> = Vec::new();
    for question in questions {
        let place = *places.entry(clip_key(question)).or_insert(clips.len());
        if place == clips.len() {
            clips.push((
                videos.find(&question.video_name),
                Clip {
                    video: &question.video_name,
                    path: PathBuf::new(),
                    window: question.window,
                    questions: Vec::new(),
                },
            ));
        }
        clips[place].1.questions.push(question);
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (path, clip) in clips {
        match path {
            Ok(path) => found.push(Clip { path, ..clip }),
            Err(reason) => missing.push((clip.video, clip.questions, reason)),
        }
    }
    (found, missing)
}
