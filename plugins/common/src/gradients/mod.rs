//! Training: what a model's layers remember of a forward pass, and how they go back.
//!
//! The same `forward` serves inference and training. Inside [`record`] every layer of this kit leaves a
//! note of what its backward pass needs; outside of it nothing is kept. [`Tape::backward`] goes through
//! the notes from the last to the first. Gradients of parameters are added up in the [`Parameter`]s
//! themselves, where [`Parameters`] shows, changes, saves and restores them: a plugin's
//! [`Trainable`](merv_plugin_api::Trainable) is one line, [`trainable!`](crate::trainable).
//!
//! candle's own backward pass is not used: it begins every gradient as zeros and adds to it, on one thread,
//! and keeps all activations until its end.

mod operations;
mod parameter;
mod parameters;
mod tape;

pub use operations::{activate, add_repeated, choose_rows, gated, repeated, reshape, swap_rows};
pub use parameter::{Parameter, Values};
pub use parameters::Parameters;
pub(crate) use tape::recording;
pub use tape::{Flow, Tape, checkpoint, note, record};
