mod clips;
mod queue;

use super::{CommandResult, load_options, options, print, print_json};
use crate::{
    args::{Global, encode::Encode},
    ui::Ui,
};
use merv_host::counted;
use merv_host::{Encoders, VideoOptions, features::FeatureCache, in_one_line, plugin::Copies};
use queue::{NextClip, Queue};
use serde::Serialize;
use std::{path::PathBuf, sync::mpsc::sync_channel, thread, time::Instant};

#[derive(Serialize)]
struct EncodeReport {
    /// The number of different clips.
    clips: usize,
    /// The number of clips that were encoded now.
    encoded: usize,
    /// The number of clips that had all their features already.
    cached: usize,
    /// Clips that cannot be read.
    broken: Vec<BrokenClip>,
    /// The number of features in the cache now.
    features: usize,
    /// Copies between main memory and devices, of tensors that cross between host and plugins.
    copies: Copies,
    seconds: f64,
}

#[derive(Serialize)]
struct BrokenClip {
    path: PathBuf,
    error: String,
}

pub fn run(global: &Global, args: &Encode, ui: Ui) -> CommandResult {
    let started = Instant::now();
    let clips = clips::of(args, &mut |text| ui.warn_always(text))?;
    let cache = FeatureCache::open(&args.out, args.dtype.into())?;
    let mut bar = ui.bar();
    let encoders = Encoders::load(global.registry(), &load_options(global), &mut bar)?;
    let video = VideoOptions {
        limits: options::limits(&args.limits),
        ..VideoOptions::default()
    };
    let mut report = EncodeReport {
        clips: clips.len(),
        encoded: 0,
        cached: 0,
        broken: Vec::new(),
        features: 0,
        copies: Copies::default(),
        seconds: 0.0,
    };
    // At most three clips are in memory: one is encoded, one waits, and one is decoded.
    let (sender, receiver) = sync_channel(1);
    let (encoders, cache, video, clips) = (&encoders, &cache, &video, &clips);
    let queue = Queue {
        encoders,
        cache,
        video,
        claims: cache.claims()?,
    };
    thread::scope(|scope| -> CommandResult {
        // After an error it is dropped before the queue is joined, so that the queue ends.
        let receiver = receiver;
        // The queue returns its claims, which must last until all features are written.
        let queue =
            thread::Builder::new().spawn_scoped(scope, move || queue.run(clips, &sender))?;
        for done in 0..clips.len() {
            let (clip, next) = receiver.recv()?;
            let shown = clip.display().to_string();
            bar.show("encoding", &shown, done as u64, clips.len() as u64);
            let encoded = next.and_then(|next| match next {
                NextClip::Cached => Ok(false),
                NextClip::Prepared(prepared) => {
                    let features = encoders.encode(prepared, Some(cache), &mut ())?;
                    Ok(features.cached < features.tensors.len())
                }
            });
            match encoded {
                Ok(true) => report.encoded += 1,
                Ok(false) => report.cached += 1,
                Err(error) if error.is_of_the_clip() => {
                    let error = in_one_line(&error);
                    bar.suspend(|| ui.warn_always(&format!("skipped: {error}")));
                    let path = clip.to_owned();
                    report.broken.push(BrokenClip { path, error });
                }
                Err(error) => return Err(error.into()),
            }
        }
        cache.flush()?;
        drop(queue.join());
        Ok(())
    })?;
    bar.finish();
    for notice in cache.take_notices() {
        ui.warn(&notice);
    }
    report.features = cache.len();
    report.copies = Copies::so_far();
    report.seconds = started.elapsed().as_secs_f64();
    if report.broken.len() == report.clips {
        let why = match report.clips {
            1 => "the only clip cannot be read".to_owned(),
            clips => format!("none of the {clips} clips can be read"),
        };
        return Err(why.into());
    }
    if args.json {
        return print_json(&report);
    }
    print(&format!(
        "{}: {} encoded, {} already in the folder, {} cannot be read; {:.1} s",
        counted(report.clips, "clip"),
        report.encoded,
        report.cached,
        report.broken.len(),
        report.seconds
    ))
}
