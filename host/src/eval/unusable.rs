//! Clips and questions that cannot be used. Too many unusable clips stop the evaluation.

use super::{EvalError, Failure, Question, options::EvalObserver};
use crate::{Error, in_one_line};

/// The clips and questions of a chunk that cannot be used.
pub(super) struct Unusable {
    /// The number of clips that may be unusable.
    pub allowed: usize,
    /// The number of clips in the chunk.
    pub total_clips: usize,
    /// One entry per unusable clip.
    pub clips: Vec<Failure>,
    /// One entry per question that could not be asked.
    pub questions: Vec<Failure>,
}

impl Unusable {
    /// Records a clip that cannot be used, and all of its questions.
    pub fn add_clip(
        &mut self,
        video: &str,
        questions: &[&Question],
        reason: &str,
        observer: &mut dyn EvalObserver,
    ) {
        let failure = |question: &Question| Failure {
            question_id: question.id.clone(),
            video_name: video.to_owned(),
            error: reason.to_owned(),
        };
        self.questions
            .extend(questions.iter().map(|question| failure(question)));
        if let Some(first) = questions.first() {
            let failure = failure(first);
            observer.failed(&failure);
            self.clips.push(failure);
        }
    }

    /// Records a question that could not be asked.
    pub fn add_question(
        &mut self,
        question: &Question,
        error: &Error,
        observer: &mut dyn EvalObserver,
    ) {
        let failure = Failure {
            question_id: question.id.clone(),
            video_name: question.video_name.clone(),
            error: in_one_line(error),
        };
        observer.failed(&failure);
        self.questions.push(failure);
    }

    /// Checks that no more clips are unusable than allowed.
    ///
    /// # Errors
    ///
    /// When more clips are unusable.
    pub fn check(&self) -> Result<(), EvalError> {
        if self.clips.len() <= self.allowed {
            return Ok(());
        }
        Err(EvalError::TooManyUnusable {
            clips: self.clips.clone(),
            total: self.total_clips,
            allowed: self.allowed,
        })
    }
}
