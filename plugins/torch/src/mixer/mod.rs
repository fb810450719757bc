//! MERV's mixer (arXiv 2501.01426, §3): a projector for each encoder, then a fusion. It computes the same as the host's own
//! mixer, with the same names of weights, on the device of the plugin.

mod scope;
mod linear;
mod attentive_pool;
mod conv;
mod projector;
mod fusion;
mod network;

pub use network::{ID, describe, load};
