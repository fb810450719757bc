//! Conversion of the quantised weights of GGUF files to `f32`.
//!
//! A tensor is a sequence of blocks of small integers with their scales. The layouts are those of
//! `ggml-common.h` in `ggml-org/llama.cpp`. The order of the operations is that of `gguf/quants.py` there, so
//! that every value is the same to the last bit.

use half::f16;
use merv_checkpoint::GgmlType;
use std::array;

/// Converts whole `blocks` of `kind` into `values`, which must have exactly as many elements.
pub fn dequantize(kind: GgmlType, blocks: &[u8], values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn avx512(kind: GgmlType, blocks: &[u8], values: &mut [f32]) {
            each_of_kind::<x86::Avx512>(kind, blocks, values);
        }

        #[target_feature(enable = "avx2,fma")]
        fn avx2(kind: GgmlType, blocks: &[u8], values: &mut [f32]) {
            each_of_kind::<x86::Avx2>(kind, blocks, values);
        }

        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            // SAFETY: the CPU has the features that the function is compiled for.
            return unsafe { avx512(kind, blocks, values) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(kind, blocks, values) };
        }
    }
    each_of_kind::<Portable>(kind, blocks, values);
}

/// Conversion of bytes to numbers. Without it, the compiler vectorises the loop over the blocks instead of
/// the loop inside a block, and then has to scatter every value.
trait ToFloats {
    /// Converts the bytes to numbers.
    ///
    /// # Safety
    ///
    /// The CPU must support the instructions.
    unsafe fn numbers(bytes: [u8; 16]) -> [f32; 16];
}

/// Without explicit vector instructions.
struct Portable;

impl ToFloats for Portable {
    #[inline(always)]
    unsafe fn numbers(bytes: [u8; 16]) -> [f32; 16] {
        bytes.map(f32::from)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::ToFloats;
    use std::{
        arch::x86_64::{
            __m128i, _mm_srli_si128, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm512_cvtepi32_ps,
            _mm512_cvtepu8_epi32,
        },
        mem::transmute,
    };

    pub(super) struct Avx2;

    impl ToFloats for Avx2 {
        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn numbers(bytes: [u8; 16]) -> [f32; 16] {
            // SAFETY: the registers have the size of the arrays, and every bit pattern is valid.
            unsafe {
                let bytes: __m128i = transmute(bytes);
                let low = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
                let high = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes)));
                transmute([low, high])
            }
        }
    }

    pub(super) struct Avx512;

    impl ToFloats for Avx512 {
        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn numbers(bytes: [u8; 16]) -> [f32; 16] {
            // SAFETY: as above.
            unsafe {
                let bytes: __m128i = transmute(bytes);
                transmute(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)))
            }
        }
    }
}

#[inline(always)]
fn each_of_kind<S: ToFloats>(kind: GgmlType, blocks: &[u8], values: &mut [f32]) {
    // A closure for each type: a function that is passed by its name would not be inlined.
    match kind {
        GgmlType::Q4_0 => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q4_0::<S>(b, v),
        ),
        GgmlType::Q4_1 => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q4_1::<S>(b, v),
        ),
        GgmlType::Q5_0 => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q5_0::<S>(b, v),
        ),
        GgmlType::Q5_1 => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q5_1::<S>(b, v),
        ),
        GgmlType::Q8_0 => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q8_0::<S>(b, v),
        ),
        GgmlType::Q2K => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q2_k::<S>(b, v),
        ),
        GgmlType::Q3K => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q3_k::<S>(b, v),
        ),
        GgmlType::Q4K => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q4_k::<S>(b, v),
        ),
        GgmlType::Q5K => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q5_k::<S>(b, v),
        ),
        GgmlType::Q6K => each_block(
            blocks,
            values,
            #[inline(always)]
            |b, v| q6_k::<S>(b, v),
        ),
    }
}

#[inline(always)]
fn each_block<const BYTES: usize, const VALUES: usize>(
    blocks: &[u8],
    values: &mut [f32],
    block_values: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, rest) = blocks.as_chunks::<BYTES>();
    let (values, values_rest) = values.as_chunks_mut::<VALUES>();
    debug_assert!(rest.is_empty() && values_rest.is_empty() && blocks.len() == values.len());
    for (block, values) in blocks.iter().zip(values) {
        block_values(block, values);
    }
}

/// `value` of each of the numbers that `byte` makes of 0 to 15, into `values`.
#[inline(always)]
fn sixteen<S: ToFloats>(
    values: &mut [f32],
    byte: impl Fn(usize) -> u8,
    value: impl Fn(f32) -> f32,
) {
    // SAFETY: `dequantize` has checked that the CPU supports the instructions of `S`.
    let numbers = unsafe { S::numbers(array::from_fn(byte)) };
    for (out, number) in values.iter_mut().zip(numbers) {
        *out = value(number);
    }
}

/// Returns the half-precision number at `at`.
#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    // Not `to_f32`, which checks the features of the CPU in every call.
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32_const()
}

/// Returns the four bytes from `at` as a little-endian number.
#[inline(always)]
fn bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// A half `d`, 32 integers of 4 bits: `d·(q − 8)`.
#[inline(always)]
fn q4_0<S: ToFloats>(block: &[u8; 18], values: &mut [f32; 32]) {
    let (scale, bytes) = (half(block, 0), &block[2..]);
    let (low, high) = values.split_at_mut(16);
    sixteen::<S>(low, |i| bytes[i] & 15, |q| (q - 8.0) * scale);
    sixteen::<S>(high, |i| bytes[i] >> 4, |q| (q - 8.0) * scale);
}

/// Halves `d` and `m`, 32 integers of 4 bits: `d·q + m`.
#[inline(always)]
fn q4_1<S: ToFloats>(block: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, least, bytes) = (half(block, 0), half(block, 2), &block[4..]);
    let (low, high) = values.split_at_mut(16);
    sixteen::<S>(low, |i| bytes[i] & 15, |q| q * scale + least);
    sixteen::<S>(high, |i| bytes[i] >> 4, |q| q * scale + least);
}

/// Returns the `i`th bit as the fifth bit of an integer.
#[inline(always)]
fn fifth(bits: u32, i: usize) -> u8 {
    ((bits >> i & 1) << 4) as u8
}

/// A half `d`, the fifth bits of 32 integers, their lower four: `d·(q − 16)`.
#[inline(always)]
fn q5_0<S: ToFloats>(block: &[u8; 22], values: &mut [f32; 32]) {
    let (scale, fifths, bytes) = (half(block, 0), bits(block, 2), &block[6..]);
    let (low, high) = values.split_at_mut(16);
    let value = |q| (q - 16.0) * scale;
    sixteen::<S>(low, |i| bytes[i] & 15 | fifth(fifths, i), value);
    sixteen::<S>(high, |i| bytes[i] >> 4 | fifth(fifths, i + 16), value);
}

/// Halves `d` and `m`, the fifth bits of 32 integers, their lower four: `d·q + m`.
#[inline(always)]
fn q5_1<S: ToFloats>(block: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, least, fifths) = (half(block, 0), half(block, 2), bits(block, 4));
    let bytes = &block[8..];
    let (low, high) = values.split_at_mut(16);
    let value = |q| q * scale + least;
    sixteen::<S>(low, |i| bytes[i] & 15 | fifth(fifths, i), value);
    sixteen::<S>(high, |i| bytes[i] >> 4 | fifth(fifths, i + 16), value);
}

/// A half `d`, 32 signed bytes: `d·q`.
#[inline(always)]
fn q8_0<S: ToFloats>(block: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half(block, 0);
    let (bytes, _) = block[2..].as_chunks::<16>();
    for (bytes, values) in bytes.iter().zip(values.as_chunks_mut::<16>().0) {
        // From signed to unsigned, which adds 128.
        sixteen::<S>(values, |i| bytes[i] ^ 128, |q| (q - 128.0) * scale);
    }
}

/// 16 bytes of a scale (low) and a least value (high) for 16 integers each, 256 integers of 2 bits,
/// halves `d` and `m`: `d·scale·q − m·least`.
#[inline(always)]
fn q2_k<S: ToFloats>(block: &[u8; 84], values: &mut [f32; 256]) {
    let (d, m) = (half(block, 80), half(block, 82));
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, least) = (
            d * f32::from(block[group] & 15),
            m * f32::from(block[group] >> 4),
        );
        // 128 values share 32 bytes: four planes of two bits.
        let (plane, half) = (group / 2 % 4, group % 2);
        let bytes = &block[16 + group / 8 * 32 + half * 16..][..16];
        let byte = |i: usize| bytes[i] >> (2 * plane) & 3;
        sixteen::<S>(values, byte, |q| scale * q - least);
    }
}

/// The third bits of 256 integers, their lower two, 16 scales of 6 bits, a half `d`:
/// `d·(scale − 32)·(q − 4)`.
#[inline(always)]
fn q3_k<S: ToFloats>(block: &[u8; 110], values: &mut [f32; 256]) {
    let d = half(block, 108);
    let scales = &block[96..108];
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[group % 8] >> (4 * (group / 8)) & 15;
        let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = d * (i32::from(low | high << 4) - 32) as f32;
        let (plane, half) = (group / 2 % 4, group % 2);
        let thirds = &block[half * 16..][..16];
        let bytes = &block[32 + group / 8 * 32 + half * 16..][..16];
        let byte = |i: usize| bytes[i] >> (2 * plane) & 3 | (thirds[i] >> (group / 2) & 1) << 2;
        sixteen::<S>(values, byte, |q| scale * (q - 4.0));
    }
}

/// Returns the scale and the least value of the `group`th 32 values of a [`q4_k`] or [`q5_k`] block, which
/// are packed into 12 bytes with 6 bits each.
#[inline(always)]
fn scale_and_least(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, least) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(least))
}

/// Halves `d` and `m`, 8 scales and least values of 6 bits, 256 integers of 4 bits:
/// `d·scale·q − m·least`.
#[inline(always)]
fn q4_k<S: ToFloats>(block: &[u8; 144], values: &mut [f32; 256]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let (bytes, _) = block[16 + group / 2 * 32..][..32].as_chunks::<16>();
        for (bytes, values) in bytes.iter().zip(values.as_chunks_mut::<16>().0) {
            let byte = |i: usize| bytes[i] >> (4 * (group % 2)) & 15;
            sixteen::<S>(values, byte, |q| scale * q - least);
        }
    }
}

/// As [`q4_k`], with the fifth bits of the integers before the lower four.
#[inline(always)]
fn q5_k<S: ToFloats>(block: &[u8; 176], values: &mut [f32; 256]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let (fifths, _) = block[16..48].as_chunks::<16>();
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let (bytes, _) = block[48 + group / 2 * 32..][..32].as_chunks::<16>();
        let both = bytes.iter().zip(fifths);
        for ((bytes, fifths), values) in both.zip(values.as_chunks_mut::<16>().0) {
            let byte =
                |i: usize| bytes[i] >> (4 * (group % 2)) & 15 | (fifths[i] >> group & 1) << 4;
            sixteen::<S>(values, byte, |q| scale * q - least);
        }
    }
}

/// The lower four bits of 256 integers, their upper two, 16 signed scales, a half `d`:
/// `d·scale·(q − 32)`.
#[inline(always)]
fn q6_k<S: ToFloats>(block: &[u8; 210], values: &mut [f32; 256]) {
    let d = half(block, 208);
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + group] as i8);
        // 128 values share 64 bytes of lower bits, two planes, and 32 of upper bits, four planes.
        let (part, plane, half) = (group / 8, group / 2 % 4, group % 2);
        let low = &block[part * 64 + plane % 2 * 32 + half * 16..][..16];
        let high = &block[128 + part * 32 + half * 16..][..16];
        let byte = |i: usize| low[i] >> (4 * (plane / 2)) & 15 | (high[i] >> (2 * plane) & 3) << 4;
        sixteen::<S>(values, byte, |q| scale * (q - 32.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use merv_checkpoint::Checkpoint;

    const TYPES: [(GgmlType, &str); 10] = [
        (GgmlType::Q4_0, "Q4_0"),
        (GgmlType::Q4_1, "Q4_1"),
        (GgmlType::Q5_0, "Q5_0"),
        (GgmlType::Q5_1, "Q5_1"),
        (GgmlType::Q8_0, "Q8_0"),
        (GgmlType::Q2K, "Q2_K"),
        (GgmlType::Q3K, "Q3_K"),
        (GgmlType::Q4K, "Q4_K"),
        (GgmlType::Q5K, "Q5_K"),
        (GgmlType::Q6K, "Q6_K"),
    ];

    /// The fixture was made with llama.cpp's own Python package; see `tests/python/make_gguf.py`.
    #[test]
    fn every_value_is_that_of_llama_cpp() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/quantized/blocks.safetensors"
        );
        let file = Checkpoint::open(&[path]).unwrap();
        assert_eq!(file.len(), 2 * TYPES.len());
        for (kind, name) in TYPES {
            let blocks = file.get(&format!("{name}.bytes")).unwrap().bytes();
            let expected = file.get(&format!("{name}.values")).unwrap().bytes();
            let expected = expected.as_chunks::<4>().0;
            let count = blocks.len() / kind.block_bytes() * kind.block_len();
            let mut values = vec![f32::NAN; count];
            dequantize(kind, blocks, &mut values);
            assert_eq!(values.len(), expected.len(), "{name}");
            for (i, (value, bytes)) in values.iter().zip(expected).enumerate() {
                let expected = f32::from_le_bytes(*bytes);
                assert!(*value == expected, "{name} {i}: {value} is not {expected}");
            }
        }
    }
}
