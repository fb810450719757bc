//! Training: the parameters of a model, and the backward passes of its layers.
//!
//! Inference and training use the same `forward`. Inside [`record`], every layer of this kit notes what its
//! backward pass needs; outside, nothing is kept. [`Tape::backward`] runs the notes from the last to the
//! first. The gradients of parameters are summed in the [`Parameter`]s. [`Parameters`] lists, updates, saves
//! and restores them, and [`trainable!`](crate::trainable) implements a plugin's
//! [`Trainable`](merv_plugin_api::Trainable) with it in one line.
//!
//! candle's own backward pass is not used, because it starts every gradient with zeros and adds to it, runs
//! on one thread, and keeps all activations until the end.

mod operations;
mod parameter;
mod parameters;
mod tape;

pub use operations::{activate, add_repeated, choose_rows, gated, repeated, reshape, swap_rows};
pub use parameter::{Parameter, Values};
pub use parameters::Parameters;
pub(crate) use tape::recording;
pub use tape::{Flow, Tape, checkpoint, milestone, note, record};
