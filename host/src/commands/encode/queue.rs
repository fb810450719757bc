//! Prepares clips for the encoders. Clips that another process is encoding come last.

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

/// The time between two checks of what other processes have finished.
const POLL: Duration = Duration::from_millis(100);

/// A clip that is ready for the encoders, or does not need them.
pub enum NextClip {
    /// All its features are in the cache.
    Cached,
    /// It was decoded.
    Prepared(Prepared),
}

/// A clip, with the result of preparing it.
pub type Sent<'c> = (&'c Path, Result<NextClip, Error>);

/// Prepares clips.
pub struct Queue<'q> {
    /// The encoders.
    pub encoders: &'q Encoders,
    /// The cache of features.
    pub cache: &'q FeatureCache,
    /// How videos are read.
    pub video: &'q VideoOptions,
    /// The clips that this process is encoding.
    pub claims: Claims,
}

impl Queue<'_> {
    /// Sends every clip once. Clips that other processes are encoding come last, when those processes have written
    /// the features or have ended. Returns the claims, which the caller must keep until the features are written.
    pub fn run<'c>(mut self, clips: &'c [PathBuf], sender: &SyncSender<Sent<'c>>) -> Claims {
        let mut waiting: Vec<&Path> = Vec::new();
        for clip in clips {
            match self.next(clip) {
                None => waiting.push(clip),
                // The receiver is dropped after an error.
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
                // Other processes may wait for features that are not written yet. An error is reported by the
                // last flush.
                let _ = self.cache.flush();
                thread::sleep(POLL);
            }
        }
        self.claims
    }

    /// Prepares a clip; returns `None` while another process is encoding it.
    fn next(&mut self, clip: &Path) -> Option<Result<NextClip, Error>> {
        self.try_next(clip).transpose()
    }

    fn try_next(&mut self, clip: &Path) -> Result<Option<NextClip>, Error> {
        video::check_rereadable(clip)?;
        let missing = || self.encoders.missing_features(clip, self.video, self.cache);
        if let Some(keys) = missing()? {
            if keys.is_empty() {
                return Ok(Some(NextClip::Cached));
            }
            if !self.claims.claim(&keys)? {
                return Ok(None);
            }
            // Another process may have finished it before the claim succeeded.
            if missing()?.is_some_and(|keys| keys.is_empty()) {
                return Ok(Some(NextClip::Cached));
            }
        }
        let prepared = self
            .encoders
            .prepare(clip, self.video, Some(self.cache), &mut ())?;
        Ok(Some(NextClip::Prepared(prepared)))
    }
}
