//! Loops over plain slices, where the time goes.
//!
//! Each is written so that the compiler turns it into vector code, once for every instruction set that
//! `multiversion!` tells apart at run time. Layers' matrix products are `product`'s, attention's [`gemm`]'s.

/// Compiles a function several times, for the plain instruction set and for wider ones, and picks the
/// widest that this machine has at each call. The body must inline all that it calls: a function that
/// stays outside would be compiled for the plain instruction set, where `mul_add` is a slow call.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    body($($arg),*);
                }

                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    body($($arg),*);
                }

                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                {
                    // SAFETY: the machine has the features that the function is compiled for.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

pub mod attention;
pub mod backward;
mod disjoint;
pub mod elements;
pub mod elementwise;
pub mod epilogue;
pub mod linear;
pub mod norm;
mod pairs;
pub(crate) mod product;
pub mod quantized;
pub mod softmax;
mod tile;

/// How many partial sums a reduction keeps, so that it fills vector registers.
pub(crate) const LANES: usize = 16;

/// The sum of `map` over all pairs of elements, in [`LANES`] partial sums.
#[inline(always)]
pub(crate) fn reduce(a: &[f32], b: &[f32], map: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] = map(sums[lane], x[lane], y[lane]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    a_rest
        .iter()
        .zip(b_rest)
        .fold(sums[0], |sum, (&x, &y)| map(sum, x, y))
}

/// Numbers from -1 to 1 that look random.
#[cfg(test)]
pub(crate) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0)
        .collect()
}
