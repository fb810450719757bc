//! Clips and questions that cannot be used: named, counted, and too many of them no evaluation.

use super::{EvalError, Failure, Question, options::Watch};
use crate::{Error, in_one_line};

/// What cannot be used, counted.
pub(super) struct Bad {
    /// How many clips may be unusable.
    pub allowed: usize,
    /// Clips of the chunk.
    pub clips: usize,
    /// A clip each.
    pub bad: Vec<Failure>,
    /// A question each.
    pub failed: Vec<Failure>,
}

impl Bad {
    pub fn clip(
        &mut self,
        video: &str,
        questions: &[&Question],
        reason: &str,
        watch: &mut dyn Watch,
    ) {
        let failure = |question: &Question| Failure {
            question_id: question.id.clone(),
            video_name: video.to_owned(),
            error: reason.to_owned(),
        };
        self.failed.extend(questions.iter().map(|q| failure(q)));
        if let Some(first) = questions.first() {
            let failure = failure(first);
            watch.failed(&failure);
            self.bad.push(failure);
        }
    }

    pub fn question(&mut self, question: &Question, error: &Error, watch: &mut dyn Watch) {
        let failure = Failure {
            question_id: question.id.clone(),
            video_name: question.video_name.clone(),
            error: in_one_line(error),
        };
        watch.failed(&failure);
        self.failed.push(failure);
    }

    pub fn check(&self) -> Result<(), EvalError> {
        if self.bad.len() <= self.allowed {
            return Ok(());
        }
        Err(EvalError::TooManyBad {
            bad: self.bad.clone(),
            clips: self.clips,
            allowed: self.allowed,
        })
    }
}
