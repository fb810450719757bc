//! Training of mixers, language models and encoders, in stages.
//!
//! [`Settings`] configure a run, and [`data`] reads the examples. Automatic differentiation stops at the plugins'
//! boundary: the language model returns the gradient of its input embeddings, the host continues it through the
//! mixer, and passes the gradient of the features to the encoders.

mod checkpoint;
mod checks;
mod collate;
pub mod data;
mod error;
mod metrics;
mod mixer_part;
mod model;
mod observer;
mod outline;
mod part;
mod run;
mod run_folder;
mod schedule;
mod settings;
mod stage;
mod tensorboard;
mod trainer;

pub use checkpoint::CheckpointError;
pub use error::TrainError;
pub use metrics::StepMetrics;
pub use observer::{Summary, TrainObserver};
pub use outline::{DataOutline, MemoryOutline, Outline, PartOutline};
pub use run::{TrainOptions, start_from, train};
pub use run_folder::settings_of_run;
pub use schedule::Schedule;
pub use settings::{Settings, SettingsError};
pub use stage::{Task, TrainingStage};
