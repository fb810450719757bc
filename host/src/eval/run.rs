//! Asks the questions of a chunk. Questions are grouped by clip: each clip is encoded once and its prefix is
//! prefilled once. Answers are generated in batches while the next clips are read.

use super::{
    EvalError, Failure, Question, Strategy, Task,
    clips::{Clip, clip_key, clips},
    dataset::Dataset,
    likelihood::{letter_tokens, likelihoods},
    options::{EvalObserver, RunOptions, SECONDS},
    protocol,
    settings::settings,
    store::{Chunk, Completion, Store},
    unusable::Unusable,
};
use crate::{
    Answer, Error, Prefix, PrefixedPrompt, Prepared, VidLm, VideoOptions, in_one_line,
    registry::Registry, video,
};
use serde_json::{Map, Value, json};
use std::{collections::HashSet, sync::mpsc::sync_channel, thread};

/// The number of clips that are read ahead of the model.
const READ_AHEAD: usize = 2;

/// The outcome of a run.
pub struct RunOutcome {
    /// The benchmark.
    pub dataset: Dataset,
    /// The files of the predictions.
    pub store: Store,
    /// How far the run is: all answers, if this chunk was the last to finish.
    pub completion: Completion,
    /// The questions of this chunk that could not be asked.
    pub failed: Vec<Failure>,
    /// The number of questions that this run asked. The others were answered before.
    pub asked: usize,
}

/// Runs a chunk. `registry` describes the model. `load` loads it and is called only if questions remain.
///
/// # Errors
///
/// When the data set, the files or the model cannot be used, or too many clips cannot be used.
pub fn run(
    options: &RunOptions,
    registry: &Registry,
    observer: &mut dyn EvalObserver,
    load: impl FnOnce() -> Result<VidLm, Error>,
) -> Result<RunOutcome, EvalError> {
    let dataset = Dataset::load(&options.data_dir, &options.benchmark, options.task)?;
    let questions = dataset.chunk(options.chunk_idx, options.num_chunks)?;
    let stem = match options.task {
        Task::OpenEnded => options.benchmark.clone(),
        Task::MultipleChoice => format!("{}_{}", options.benchmark, options.strategy.file_name()),
    };
    let store = Store::open(&options.out, &stem, settings(options, registry, &dataset))?;
    if let Some(merged) = store.complete(&dataset)? {
        return Ok(RunOutcome {
            dataset,
            store,
            completion: Completion::Complete(merged),
            failed: Vec::new(),
            asked: 0,
        });
    }
    let mut chunk = store.begin((options.num_chunks, options.chunk_idx), questions)?;
    let notices = store.take_notices();
    notices.iter().for_each(|notice| observer.notice(notice));
    let todo = questions.iter().filter(|question| !chunk.is_done(question));
    let (clips, missing) = clips(&dataset, todo);
    let all: HashSet<_> = questions.iter().map(clip_key).collect();
    let all = all.len();
    let mut unusable = Unusable {
        allowed: (options.max_bad_fraction * all as f64).floor() as usize,
        total_clips: all,
        clips: Vec::new(),
        questions: Vec::new(),
    };
    for (video, questions, reason) in &missing {
        unusable.add_clip(video, questions, reason, observer);
    }
    // If too many videos are missing, stop before the model is loaded.
    unusable.check()?;
    let asked = clips.iter().map(|clip| clip.questions.len()).sum();
    if asked > 0 {
        let runner = Runner {
            options,
            dataset: &dataset,
            model: &load()?,
        };
        runner.ask(&clips, &mut chunk, &mut unusable, observer)?;
    }
    let completion = chunk.finish(&dataset, &unusable.questions)?;
    Ok(RunOutcome {
        completion,
        failed: unusable.questions,
        asked,
        store,
        dataset,
    })
}

/// The prefilled prefix of a clip, and the questions about it.
type Ready<'q, 'm> = (Prefix<'m>, &'q [&'q Question]);

struct Runner<'r> {
    options: &'r RunOptions,
    dataset: &'r Dataset,
    model: &'r VidLm,
}

impl<'r> Runner<'r> {
    fn ask(
        &self,
        clips: &[Clip<'_>],
        chunk: &mut Chunk<'_>,
        unusable: &mut Unusable,
        observer: &mut dyn EvalObserver,
    ) -> Result<(), EvalError> {
        let letters = match self.options.strategy {
            Strategy::Letter => Vec::new(),
            Strategy::Likelihood | Strategy::Both => letter_tokens(self.model, clips)?,
        };
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel::<Result<Prepared, Error>>(READ_AHEAD);
            let features = self.options.features.as_deref();
            let read = move || {
                let encoders = self.model.encoders();
                for clip in clips {
                    let options = self.video_options(clip);
                    let lasts = video::check_rereadable(&clip.path).map_err(Error::from);
                    let prepared = lasts
                        .and_then(|()| encoders.prepare(&clip.path, &options, features, &mut ()));
                    // The receiver has stopped.
                    if sender.send(prepared).is_err() {
                        return;
                    }
                }
            };
            let thread = thread::Builder::new().spawn_scoped(scope, read);
            thread.map_err(Error::Thread)?;
            let mut ready: Vec<Ready<'_, 'r>> = Vec::new();
            for (done, (clip, prepared)) in clips.iter().zip(receiver).enumerate() {
                observer.clip(done, clips.len(), clip.video);
                match prepared {
                    Ok(prepared) => {
                        let visual = self.model.see_prepared(prepared, features, &mut ())?;
                        ready.push((self.model.prefix(&visual)?, &clip.questions));
                    }
                    Err(error) if error.is_of_the_clip() => {
                        unusable.add_clip(
                            clip.video,
                            &clip.questions,
                            &in_one_line(&error),
                            observer,
                        );
                        unusable.check()?;
                    }
                    Err(error) => return Err(error.into()),
                }
                let waiting: usize = ready.iter().map(|(_, questions)| questions.len()).sum();
                if waiting >= self.options.batch_size {
                    self.answer(&ready, &letters, chunk, unusable, observer)?;
                    ready.clear();
                }
            }
            self.answer(&ready, &letters, chunk, unusable, observer)?;
            if let Some(features) = features {
                features.flush().map_err(Error::from)?;
            }
            Ok(())
        })
    }

    fn video_options(&self, clip: &Clip<'_>) -> VideoOptions {
        VideoOptions {
            start: clip.window.start,
            end: clip.window.end,
            end_frame: clip.window.end_frame,
            folder_fps: Some(self.options.folder_fps),
            seconds: SECONDS,
            limits: self.options.limits,
        }
    }

    fn answer(
        &self,
        ready: &[Ready<'_, 'r>],
        letters: &[Vec<u32>],
        chunk: &mut Chunk<'_>,
        unusable: &mut Unusable,
        observer: &mut dyn EvalObserver,
    ) -> Result<(), EvalError> {
        let questions: Vec<_> = ready
            .iter()
            .flat_map(|(prefix, questions)| questions.iter().map(move |q| (prefix, *q)))
            .collect();
        let mut options = self.options.answers;
        if self.options.strategy == Strategy::Likelihood {
            // Only the first logits are needed.
            options.limits.max_new_tokens = 0;
        }
        for batch in questions.chunks(self.options.batch_size.max(1)) {
            let messages: Vec<String> = batch
                .iter()
                .map(|(_, question)| protocol::message(self.dataset, question))
                .collect();
            let prompts: Vec<PrefixedPrompt<'_, '_>> = batch
                .iter()
                .zip(&messages)
                .map(|((prefix, _), prompt)| PrefixedPrompt { prefix, prompt })
                .collect();
            let answers = self.model.answer_many(&prompts, &options)?;
            let mut predictions = Vec::with_capacity(batch.len());
            for (((prefix, question), message), answer) in batch.iter().zip(messages).zip(answers) {
                match answer {
                    Ok(answer) => predictions
                        .push(self.prediction(question, prefix, message, &answer, letters)),
                    Err(error) => unusable.add_question(question, &error, observer),
                }
            }
            chunk.add(&predictions)?;
        }
        Ok(())
    }

    /// Returns the line of a question: its own fields, the reply, the fields of the answer and the message, under
    /// the names of the original. The likelihoods are an addition.
    fn prediction(
        &self,
        question: &Question,
        prefix: &Prefix<'_>,
        message: String,
        answer: &Answer,
        letters: &[Vec<u32>],
    ) -> Map<String, Value> {
        let mut fields = question.fields.clone();
        fields.insert("pred".into(), json!(answer.text));
        if !prefix.mixer_weights().is_empty() {
            let weights: Vec<f32> = prefix.mixer_weights().iter().map(|(_, w)| *w).collect();
            fields.insert("mixer_value".into(), json!(weights));
        }
        let answer_fields = question.answer_fields.iter();
        fields.extend(answer_fields.map(|(key, value)| (key.clone(), value.clone())));
        let Some(choice) = &question.choice else {
            fields.insert("message".into(), json!(message));
            return fields;
        };
        fields.insert("question_text".into(), json!(message));
        let letter = |option| protocol::letter(option).to_string();
        fields.insert("answer_char".into(), json!(letter(choice.answer_id)));
        if !letters.is_empty() {
            let tokens = &letters[..choice.letters.min(letters.len())];
            let likelihoods = likelihoods(&answer.first_logits, tokens);
            let best = (0..likelihoods.len()).reduce(|best, next| {
                if likelihoods[next] > likelihoods[best] {
                    next
                } else {
                    best
                }
            });
            let best = letter(best.unwrap_or(0));
            fields.insert("likelihood_char".into(), json!(best));
            fields.insert("likelihoods".into(), json!(likelihoods));
            if self.options.strategy == Strategy::Likelihood {
                fields.insert("pred".into(), json!(best));
            }
        }
        fields
    }
}
