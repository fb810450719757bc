//! The clips on their way to the encoders, those first that no other process is at work on.

use merv_host::{
    Encoders, Error, Prepared, VideoOptions,
    features::{Claims, FeatureCache},
    video,
};
use std::{
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    thread,
    time::Duration,
};

/// Between two looks at what other processes have finished.
const POLL: Duration = Duration::from_millis(100);

/// What became of a clip before the encoders see it.
pub enum Next {
    /// Its features are there.
    Cached,
    /// It was read.
    Prepared(Prepared),
}

/// A clip and what became of it.
pub type Sent<'c> = (&'c Path, Result<Next, Error>);

/// Where clips are looked up, and by what they are read.
pub struct Queue<'q> {
    /// The encoders.
    pub encoders: &'q Encoders,
    /// Where features are kept.
    pub cache: &'q FeatureCache,
    /// How videos are read.
    pub video: &'q VideoOptions,
    /// What this process is at work on.
    pub claims: Claims,
}

impl Queue<'_> {
    /// Sends every clip once. Those that other processes are at work on come last, when these have written
    /// their features or have ended. Returns the claims, which hold until the features are written.
    pub fn run<'c>(mut self, clips: &'c [PathBuf], sender: &SyncSender<Sent<'c>>) -> Claims {
        let mut waiting: Vec<&Path> = Vec::new();
        for clip in clips {
            match self.next(clip) {
                None => waiting.push(clip),
                // Nobody listens any more after an error.
                Some(next) => {
                    if sender.send((clip, next)).is_err() {
                        return self.claims;
                    }
                }
            }
        }
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut left = Vec::new();
            for clip in waiting {
                match self.next(clip) {
                    None => left.push(clip),
                    Some(next) => {
                        if sender.send((clip, next)).is_err() {
                            return self.claims;
                        }
                    }
                }
            }
            waiting = left;
            if waiting.len() == before {
                // Others may wait for what is not written yet. If it cannot be, the end tells.
                let _ = self.cache.flush();
                thread::sleep(POLL);
            }
        }
        self.claims
    }

    /// What becomes of a clip; none while another process is at work on it.
    fn next(&mut self, clip: &Path) -> Option<Result<Next, Error>> {
        self.try_next(clip).transpose()
    }

    fn try_next(&mut self, clip: &Path) -> Result<Option<Next>, Error> {
        video::check_lasts(clip)?;
        let missing = || self.encoders.missing_features(clip, self.video, self.cache);
        if let Some(keys) = missing()? {
            if keys.is_empty() {
                return Ok(Some(Next::Cached));
            }
            if !self.claims.claim(&keys)? {
                return Ok(None);
            }
            // Whoever had claimed it may have finished it in between.
            if missing()?.is_some_and(|keys| keys.is_empty()) {
                return Ok(Some(Next::Cached));
            }
        }
        let prepared = self
            .encoders
            .prepare(clip, self.video, Some(self.cache), &mut ())?;
        Ok(Some(Next::Prepared(prepared)))
    }
}
