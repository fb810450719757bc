//! The blocked matrix product (the scheme of arXiv 0812.3137, "GotoBLAS"): panels of weights stay in the
//! first-level cache, and tiles of output stay in registers.
//!
//! The forward product is `x · Wᵀ`. Weights are stored with one row for each output, so a panel must be
//! transposed, and converted if it is not `f32`. The thread that multiplies with the panel does this once for
//! all rows of `x`. In the two products of the backward pass, `gradient · W` and `gradientᵀ · x`, the second
//! operand is stored with one row for each input; in the last one, the first operand is transposed. In
//! `bf16`, two inputs at a time are multiplied, as [`pairs`]. The pairs of `x` are made before the product,
//! those of the weights together with their panel.

mod operands;
mod pack;
mod run;
mod tasks;
#[cfg(test)]
mod tests;

pub(crate) use operands::{Left, Right};
pub(super) use run::product;
pub(crate) use run::product_into;
