//! Loops over plain slices, where most of the time is spent.
//!
//! Each is written so that the compiler can vectorise it, and is compiled for every instruction set that
//! `multiversion!` selects from at run time. The matrix products of layers are in `product`; those of
//! attention use [`gemm`].

#[macro_use]
mod multiversion;

pub mod activations;
pub mod adamw;
pub mod attention;
pub mod cross_entropy;
mod disjoint;
pub mod elements;
pub mod elementwise;
pub mod epilogue;
pub mod linear;
pub mod norm;
#[cfg(test)]
pub(crate) mod numbers;
mod pairs;
pub(crate) mod product;
pub mod quantized;
mod reduce;
pub mod rows;
#[cfg(test)]
mod slopes;
pub mod softmax;
pub mod squares;
mod tile;
