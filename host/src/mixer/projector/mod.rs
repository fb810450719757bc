//! Projectors: the features of one encoder, pooled to the common number of tokens and brought to the
//! language model's width.

mod average_pool_3d;
mod pooling;

pub use average_pool_3d::AveragePool3d;
