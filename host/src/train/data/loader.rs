//! Reads a bounded number of batches ahead on its own threads, and returns them in order.

use super::{BrokenExample, DataError, Entry, Example, ExampleTokenizer, Index, Tokens};
use crate::{
    Error,
    messages::{in_one_line, quoted},
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use thiserror::Error;

/// Reads an image or a video into the input of the encoders.
pub type ReadVisual<V> = dyn Fn(&Path) -> Result<V, Error> + Send + Sync;

/// Everything that is needed to read an example. All threads share it.
pub struct Source<V> {
    /// The data set.
    pub index: Arc<Index>,
    /// The folder that the paths of the examples are relative to.
    pub media: PathBuf,
    /// Turns the text of an example into tokens.
    pub form: ExampleTokenizer,
    /// Reads images and videos.
    pub read_visual: Box<ReadVisual<V>>,
}

/// An example that was read.
pub struct LoadedExample<V> {
    /// The tokens of its text.
    pub tokens: Tokens,
    /// Its image or video.
    pub visual: Option<V>,
}

/// The examples of a device batch, which are computed together.
pub struct BatchRequest {
    /// The step that they belong to.
    pub step: u64,
    /// Whether this is the last device batch of the step.
    pub last: bool,
    /// The numbers of the examples among the data set's entries.
    pub numbers: Vec<u32>,
}

/// A device batch that was read.
pub struct LoadedBatch<V> {
    /// The request.
    pub request: BatchRequest,
    /// The examples, in order, without the broken ones.
    pub ready: Vec<LoadedExample<V>>,
    /// The broken examples, with their numbers.
    pub broken: Vec<(u32, BrokenExample)>,
    /// How long the caller waited for the batch.
    pub waited: Duration,
}

/// An error that stops reading.
#[derive(Debug, Error)]
pub enum LoaderError {
    /// The data set cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Clips cannot be prepared, or threads cannot be started.
    #[error(transparent)]
    Model(Box<Error>),
}

/// Why an example was not read.
enum ReadFailure {
    /// This example is broken.
    Broken(BrokenExample),
    /// No further example can be read.
    All(LoaderError),
}

/// What a thread sends: the position in the batch, and the example.
type Sent<V> = (usize, Result<LoadedExample<V>, ReadFailure>);

/// Reads ahead.
pub struct Loader<V> {
    source: Arc<Source<V>>,
    pool: ThreadPool,
    work: Box<dyn Iterator<Item = BatchRequest>>,
    ahead: VecDeque<(BatchRequest, mpsc::Receiver<Sent<V>>)>,
    prefetch: usize,
}

impl<V: Send + 'static> Loader<V> {
    /// Starts to read `prefetch` batches of `work` on `workers` threads.
    ///
    /// # Errors
    ///
    /// When the threads cannot be started.
    pub fn new(
        source: Arc<Source<V>>,
        work: impl Iterator<Item = BatchRequest> + 'static,
        workers: usize,
        prefetch: usize,
    ) -> Result<Self, LoaderError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|number| format!("loader {number}"))
            // `take` notices that nothing was sent.
            .panic_handler(|_| ())
            .build()
            .map_err(Error::from)?;
        let mut loader = Self {
            source,
            pool,
            work: Box::new(work),
            ahead: VecDeque::new(),
            prefetch,
        };
        loader.fill();
        Ok(loader)
    }

    fn fill(&mut self) {
        while self.ahead.len() < self.prefetch {
            let Some(work) = self.work.next() else { break };
            let (sender, receiver) = mpsc::channel();
            for (place, &number) in work.numbers.iter().enumerate() {
                let (source, sender) = (Arc::clone(&self.source), sender.clone());
                self.pool.spawn_fifo(move || {
                    // The receiver is gone if the run was stopped.
                    let _ = sender.send((place, source.read(number)));
                });
            }
            self.ahead.push_back((work, receiver));
        }
    }

    /// Returns the next batch, if there is one.
    ///
    /// # Errors
    ///
    /// When no further example can be read: the data set was removed or changed, or a cache fails.
    pub fn take(&mut self) -> Result<Option<LoadedBatch<V>>, LoaderError> {
        self.fill();
        let Some((work, receiver)) = self.ahead.pop_front() else {
            return Ok(None);
        };
        let started = Instant::now();
        let mut sent: Vec<Option<Result<LoadedExample<V>, ReadFailure>>> =
            work.numbers.iter().map(|_| None).collect();
        for (place, result) in receiver {
            sent[place] = Some(result);
        }
        let waited = started.elapsed();
        self.fill();
        let (mut ready, mut broken) = (Vec::new(), Vec::new());
        for (&number, result) in work.numbers.iter().zip(sent) {
            match result {
                Some(Ok(example)) => ready.push(example),
                Some(Err(ReadFailure::Broken(why))) => broken.push((number, why)),
                Some(Err(ReadFailure::All(error))) => return Err(error),
                None => {
                    let name = self.source.name(number, None);
                    let why = "an internal error occurred while reading it".to_owned();
                    broken.push((number, BrokenExample { name, why }));
                }
            }
        }
        Ok(Some(LoadedBatch {
            request: work,
            ready,
            broken,
            waited,
        }))
    }
}

impl<V> Source<V> {
    fn read(&self, number: u32) -> Result<LoadedExample<V>, ReadFailure> {
        let entry: &Entry = &self.index.entries()[number as usize];
        let example = self
            .index
            .example(entry)
            .map_err(|error| ReadFailure::All(error.into()))?;
        let broken = |why: String| {
            ReadFailure::Broken(BrokenExample {
                name: self.name(number, Some(&example)),
                why,
            })
        };
        let tokens = self.form.tokens(&example);
        let tokens = tokens.map_err(|error| broken(error.to_string()))?;
        let visual = match &example.visual {
            None => None,
            Some((_, path)) => match (self.read_visual)(&self.media.join(path)) {
                Ok(visual) => Some(visual),
                Err(error) if error.is_of_the_clip() => {
                    return Err(broken(in_one_line(&error)));
                }
                Err(error) => return Err(ReadFailure::All(error.into())),
            },
        };
        Ok(LoadedExample { tokens, visual })
    }

    fn name(&self, number: u32, example: Option<&Example>) -> String {
        let place = self.index.name(&self.index.entries()[number as usize]);
        match example.map_or("", |example| &example.id) {
            "" => place,
            id => format!("{place} ({})", quoted(id)),
        }
    }
}

impl From<Error> for LoaderError {
    fn from(error: Error) -> Self {
        Self::Model(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        prompt::{PromptFormat, VisualMarks},
        tokenizer::TextTokenizer,
        train::Task,
    };
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    #[test]
    fn batches_are_in_order_and_prefetch_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.json");
        let examples = (0..40).map(|number| {
            format!(
                r#"{{"id": "e{number}", "video": "{number}", "conversations": [{{"from": "human", "value": "{number}"}},
                {{"from": "gpt", "value": ""}}]}}"#
            )
        });
        let json = format!("[{}]", examples.collect::<Vec<_>>().join(","));
        fs::write(&path, json).unwrap();
        let index = Arc::new(Index::read(&path, Task::Conversation).unwrap());
        let tokenizer = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/lively/llm/tokenizer.json"
        );
        let seen = Arc::new(AtomicUsize::new(0));
        let see = {
            let seen = Arc::clone(&seen);
            move |path: &Path| {
                seen.fetch_add(1, Ordering::SeqCst);
                let number: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                // Later examples are ready first.
                thread::sleep(Duration::from_millis(7 * (3 - number % 4)));
                match number {
                    5 => Err(crate::video::VideoError::Missing { path: path.into() }.into()),
                    6 => panic!("a bug of a decoder"),
                    _ => Ok(number),
                }
            }
        };
        let source = Source {
            index,
            media: folder.path().to_owned(),
            form: ExampleTokenizer {
                tokenizer: Arc::new(TextTokenizer::load(Path::new(tokenizer)).unwrap()),
                format: PromptFormat::Pure,
                marks: VisualMarks::default(),
                system: None,
                task: Task::Conversation,
                max_length: 64,
            },
            read_visual: Box::new(see),
        };
        let work = (0..10).map(|step| BatchRequest {
            step: u64::from(step),
            last: true,
            numbers: (step * 4..step * 4 + 4).collect(),
        });
        let mut loader = Loader::new(Arc::new(source), work, 3, 2).unwrap();
        let mut found = Vec::new();
        for step in 0.. {
            assert!(seen.load(Ordering::SeqCst) <= (step + 2) * 4);
            let Some(batch) = loader.take().unwrap() else {
                assert_eq!(step, 10);
                break;
            };
            assert_eq!(batch.request.step, step as u64);
            found.extend(batch.ready.iter().map(|ready| ready.visual.unwrap()));
            let names: Vec<_> = batch.broken.iter().map(|(_, b)| b.name.as_str()).collect();
            assert_eq!(names.is_empty(), step != 1, "{names:?}");
            if step == 1 {
                assert!(names[0].ends_with("d.json, example 6 (`e5`)"), "{names:?}");
                assert!(names[1].ends_with("d.json, example 7"), "{names:?}");
                assert!(batch.broken[0].1.why.contains('5'));
            }
        }
        let expected: Vec<u64> = (0..40).filter(|number| ![5, 6].contains(number)).collect();
        assert_eq!(found, expected);
    }
}
