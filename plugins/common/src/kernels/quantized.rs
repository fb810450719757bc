//! Quantised weights, as GGUF files hold them, back to `f32`.
//!
//! A tensor is a sequence of blocks; each holds small integers and what scales them. The layouts are
//! those of `ggml-common.h` in `ggml-org/llama.cpp`; the order of the operations is that of
//! `gguf/quants.py` there, so that every value is the same to the last bit.

use half::f16;
use merv_checkpoint::GgmlType;

multiversion! {
    /// The values of whole `blocks` of `kind`, into `values`, which has room for exactly them.
    #[allow(clippy::redundant_closure, reason = "a function passed by name would not be inlined")]
    pub fn dequantize(kind: GgmlType, blocks: &[u8], values: &mut [f32]) {
        match kind {
            GgmlType::Q4_0 => each_block(blocks, values, #[inline(always)] |b, v| q4_0(b, v)),
            GgmlType::Q4_1 => each_block(blocks, values, #[inline(always)] |b, v| q4_1(b, v)),
            GgmlType::Q5_0 => each_block(blocks, values, #[inline(always)] |b, v| q5_0(b, v)),
            GgmlType::Q5_1 => each_block(blocks, values, #[inline(always)] |b, v| q5_1(b, v)),
            GgmlType::Q8_0 => each_block(blocks, values, #[inline(always)] |b, v| q8_0(b, v)),
            GgmlType::Q2K => each_block(blocks, values, #[inline(always)] |b, v| q2_k(b, v)),
            GgmlType::Q3K => each_block(blocks, values, #[inline(always)] |b, v| q3_k(b, v)),
            GgmlType::Q4K => each_block(blocks, values, #[inline(always)] |b, v| q4_k(b, v)),
            GgmlType::Q5K => each_block(blocks, values, #[inline(always)] |b, v| q5_k(b, v)),
            GgmlType::Q6K => each_block(blocks, values, #[inline(always)] |b, v| q6_k(b, v)),
        }
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

/// The half-precision number at `at`.
#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    // Not `to_f32`, which asks the processor what it can do, every time.
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32_const()
}

/// The four bytes from `at` on as bits, the first byte lowest.
#[inline(always)]
fn bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// A half `d`, 32 integers of 4 bits: `d·(q − 8)`.
#[inline(always)]
fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let scale = half(block, 0);
    let (low, high) = values.split_at_mut(16);
    for ((byte, low), high) in block[2..].iter().zip(low).zip(high) {
        *low = (i32::from(byte & 15) - 8) as f32 * scale;
        *high = (i32::from(byte >> 4) - 8) as f32 * scale;
    }
}

/// Halves `d` and `m`, 32 integers of 4 bits: `d·q + m`.
#[inline(always)]
fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    let (low, high) = values.split_at_mut(16);
    for ((byte, low), high) in block[4..].iter().zip(low).zip(high) {
        *low = f32::from(byte & 15) * scale + least;
        *high = f32::from(byte >> 4) * scale + least;
    }
}

/// A half `d`, the fifth bits of 32 integers, their lower four: `d·(q − 16)`.
#[inline(always)]
fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let (scale, fifth) = (half(block, 0), bits(block, 2));
    let (low, high) = values.split_at_mut(16);
    for (i, ((byte, low), high)) in block[6..].iter().zip(low).zip(high).enumerate() {
        let (low_bit, high_bit) = (fifth >> i & 1, fifth >> (i + 16) & 1);
        *low = ((u32::from(byte & 15) | low_bit << 4) as i32 - 16) as f32 * scale;
        *high = ((u32::from(byte >> 4) | high_bit << 4) as i32 - 16) as f32 * scale;
    }
}

/// Halves `d` and `m`, the fifth bits of 32 integers, their lower four: `d·q + m`.
#[inline(always)]
fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, least, fifth) = (half(block, 0), half(block, 2), bits(block, 4));
    let (low, high) = values.split_at_mut(16);
    for (i, ((byte, low), high)) in block[8..].iter().zip(low).zip(high).enumerate() {
        let (low_bit, high_bit) = (fifth >> i & 1, fifth >> (i + 16) & 1);
        *low = (u32::from(byte & 15) | low_bit << 4) as i32 as f32 * scale + least;
        *high = (u32::from(byte >> 4) | high_bit << 4) as i32 as f32 * scale + least;
    }
}

/// A half `d`, 32 signed bytes: `d·q`.
#[inline(always)]
fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half(block, 0);
    for (byte, value) in block[2..].iter().zip(values) {
        *value = f32::from(*byte as i8) * scale;
    }
}

/// 16 bytes of a scale (low) and a least value (high) for 16 integers each, 256 integers of 2 bits,
/// halves `d` and `m`: `d·scale·q − m·least`.
#[inline(always)]
fn q2_k(block: &[u8; 84], values: &mut [f32; 256]) {
    let (d, m) = (half(block, 80), half(block, 82));
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, least) = (
            d * f32::from(block[group] & 15),
            m * f32::from(block[group] >> 4),
        );
        // 128 values share 32 bytes: four planes of two bits.
        let (plane, half) = (group / 2 % 4, group % 2);
        let bytes = &block[16 + group / 8 * 32 + half * 16..][..16];
        for (byte, value) in bytes.iter().zip(values) {
            *value = scale * f32::from(byte >> (2 * plane) & 3) - least;
        }
    }
}

/// The third bits of 256 integers, their lower two, 16 scales of 6 bits, a half `d`:
/// `d·(scale − 32)·(q − 4)`.
#[inline(always)]
fn q3_k(block: &[u8; 110], values: &mut [f32; 256]) {
    let d = half(block, 108);
    let scales = &block[96..108];
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[group % 8] >> (4 * (group / 8)) & 15;
        let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = d * (i32::from(low | high << 4) - 32) as f32;
        let (plane, half) = (group / 2 % 4, group % 2);
        let thirds = &block[half * 16..][..16];
        let bytes = &block[32 + group / 8 * 32 + half * 16..][..16];
        for ((byte, third), value) in bytes.iter().zip(thirds).zip(values) {
            let third = third >> (group / 2) & 1;
            *value = scale * (i32::from(byte >> (2 * plane) & 3 | third << 2) - 4) as f32;
        }
    }
}

/// Scale and least value of the `group`th 32 values of a [`q4_k`] or [`q5_k`], packed into 12 bytes of
/// 6 bits each.
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
fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let bytes = &block[16 + group / 2 * 32..][..32];
        for (byte, value) in bytes.iter().zip(values) {
            *value = scale * f32::from(byte >> (4 * (group % 2)) & 15) - least;
        }
    }
}

/// As [`q4_k`], with the fifth bits of the integers before the lower four.
#[inline(always)]
fn q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let fifths = &block[16..48];
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let bytes = &block[48 + group / 2 * 32..][..32];
        for ((byte, fifth), value) in bytes.iter().zip(fifths).zip(values) {
            let q = byte >> (4 * (group % 2)) & 15 | (fifth >> group & 1) << 4;
            *value = scale * f32::from(q) - least;
        }
    }
}

/// The lower four bits of 256 integers, their upper two, 16 signed scales, a half `d`:
/// `d·scale·(q − 32)`.
#[inline(always)]
fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let d = half(block, 208);
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + group] as i8);
        // 128 values share 64 bytes of lower bits, two planes, and 32 of upper bits, four planes.
        let (part, plane, half) = (group / 8, group / 2 % 4, group % 2);
        let low = &block[part * 64 + plane % 2 * 32 + half * 16..][..16];
        let high = &block[128 + part * 32 + half * 16..][..16];
        for ((low, high), value) in low.iter().zip(high).zip(values) {
            let q = low >> (4 * (plane / 2)) & 15 | (high >> (2 * plane) & 3) << 4;
            *value = scale * (i32::from(q) - 32) as f32;
        }
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

    /// The fixture is what llama.cpp's own Python package reads; see `tests/python/make_gguf.py`.
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
