//! Generates a synthetic data set: clips of moving shapes, with captions, questions and answers.
//!
//! ```text
//! random → scene_generator: scenes → paint: pictures → movie: mp4 files
//!                                  → words: captions, questions → files: train.json, eval_data/
//! ```
//!
//! The seed determines everything: the JSON is the same on every machine, and the clips are the same with the same
//! version of FFmpeg. Colours, shapes, directions, numbers and the positions of correct answers are evenly
//! distributed. A combination of a story, a colour, a shape and a third part occurs either in training or in the
//! held-out clips, never in both. So correct answers on held-out clips cannot come from memorisation.

mod error;
mod files;
mod json;
mod movie;
mod paint;
mod random;
mod scene;
mod scene_generator;
mod split;
#[cfg(test)]
mod tests;
mod words;

pub use error::SynthError;
pub use split::Split;

use crate::disk::write_lock::{LOCK, WriteLock};
use files::Files;
use movie::ClipCodec;
use paint::paint;
use scene::Scene;
use scene_generator::SceneGenerator;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};
use words::QuestionWriter;

/// The number of frames in a clip: the largest number that an encoder of `merv-full` uses.
pub const FRAMES: usize = 32;

/// The frame rate of a clip.
pub const FRAMES_PER_SECOND: usize = 8;

/// The options of a data set.
#[derive(Debug, Clone)]
pub struct SynthOptions {
    /// The number of clips in each split.
    pub clips: usize,
    /// The seed, which determines the contents.
    pub seed: u64,
    /// The splits, each once.
    pub splits: Vec<Split>,
    /// The width and height of the clips, in pixels.
    pub size: usize,
    /// The number of threads that draw and encode.
    pub threads: usize,
    /// Whether to overwrite the files of an earlier run.
    pub force: bool,
}

/// A summary of a data set.
#[derive(Debug, Clone, Serialize)]
pub struct SynthReport {
    /// The number of training clips.
    pub train_clips: usize,
    /// The number of held-out clips.
    pub held_out_clips: usize,
    /// The number of items in each JSON file, by path relative to the folder.
    pub items: BTreeMap<String, usize>,
    /// The number of questions about training clips, by kind.
    pub train_questions: BTreeMap<&'static str, usize>,
    /// The number of questions about held-out clips, by kind.
    pub held_out_questions: BTreeMap<&'static str, usize>,
    /// The codec of the clips: `h264` or `mpeg4`.
    pub codec: &'static str,
}

/// Writes a data set to `folder`. `progress` is called with the number of finished clips and their total.
///
/// The JSON files are written last and atomically: an interrupted run leaves none.
///
/// # Errors
///
/// When the folder is not empty, a setting is out of range, or a file cannot be written.
pub fn synth(
    folder: &Path,
    options: &SynthOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<SynthReport, SynthError> {
    let setting = |what, found, expected| {
        Err(SynthError::Setting {
            what,
            found,
            expected,
        })
    };
    if !(32..=1024).contains(&options.size) || options.size % 2 == 1 {
        return setting(
            "the size of the clips",
            options.size,
            "an even number from 32 to 1024",
        );
    }
    if !(1..=1_000_000).contains(&options.clips) {
        return setting("the number of clips", options.clips, "1 to 1000000");
    }
    let codec = ClipCodec::choose()?;
    fs::create_dir_all(folder).map_err(SynthError::write(folder))?;
    let _lock = WriteLock::folder(folder, "synth")?;
    let mut entries = fs::read_dir(folder).map_err(SynthError::write(folder))?;
    let is_data = |entry: &io::Result<fs::DirEntry>| {
        entry.as_ref().is_ok_and(|entry| entry.file_name() != LOCK)
    };
    if entries.any(|entry| is_data(&entry)) && !options.force {
        let path = folder.to_owned();
        return Err(SynthError::Occupied { path });
    }
    let mut report = SynthReport {
        train_clips: 0,
        held_out_clips: 0,
        items: BTreeMap::new(),
        train_questions: BTreeMap::new(),
        held_out_questions: BTreeMap::new(),
        codec: codec.name(),
    };
    let total = options.clips * options.splits.len();
    for &split in &options.splits {
        Files::new(folder, split).begin()?;
    }
    for (index, &split) in options.splits.iter().enumerate() {
        let files = Files::new(folder, split);
        let mut generator = SceneGenerator::new(options.seed, split);
        let scenes: Vec<Scene> = (0..options.clips).map(|_| generator.scene()).collect();
        let before = index * options.clips;
        write_clips(&files, &scenes, &codec, options, &mut |done| {
            progress(before + done, total)
        })?;
        // Random streams 0 and 1 belong to the scene generators.
        let mut question_writer = QuestionWriter::new(options.seed, 2 + split as u64);
        let (kinds, items) = files.write(&scenes, &mut question_writer)?;
        report.items.extend(items);
        match split {
            Split::Train => (report.train_clips, report.train_questions) = (scenes.len(), kinds),
            Split::HeldOut => {
                (report.held_out_clips, report.held_out_questions) = (scenes.len(), kinds)
            }
        }
    }
    Ok(report)
}

/// Draws and encodes all scenes on several threads.
fn write_clips(
    files: &Files<'_>,
    scenes: &[Scene],
    codec: &ClipCodec,
    options: &SynthOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<(), SynthError> {
    let write_clip = |number: usize| {
        let pictures = (0..FRAMES).map(|frame| {
            let time = frame as f32 / (FRAMES - 1) as f32;
            paint(&scenes[number], time, options.size)
        });
        codec.write(
            &files.video(number),
            options.size,
            FRAMES_PER_SECOND as i32,
            pictures,
        )?;
        files.share(number)
    };
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..options.threads.clamp(1, scenes.len()) {
            let (sender, write_clip, next, stop) = (sender.clone(), &write_clip, &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= scenes.len() || sender.send(write_clip(number)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (done, written) in receiver.iter().enumerate() {
            if written.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            written?;
            progress(done + 1);
        }
        Ok(())
    })
}
