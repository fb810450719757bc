"""Random tensors in ggml's quantised formats, and their values as the package `gguf` reads them.

Every bit of a block is random except the scales in half precision, which give the values the requested
size and a mean of zero. So no quantiser is needed, and every bit pattern can occur.
"""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# The bytes before the scale `d`, those before the scale of the minimum, and the minimum divided by `d`.
SCALES = {
    Type.Q4_0: (0, None, None),
    Type.Q4_1: (0, 2, -7.5),
    Type.Q5_0: (0, None, None),
    Type.Q5_1: (0, 2, -15.5),
    Type.Q8_0: (0, None, None),
    Type.Q2_K: (80, 82, 1.5),
    Type.Q3_K: (108, None, None),
    Type.Q4_K: (0, 2, 7.5),
    Type.Q5_K: (0, 2, 15.5),
    Type.Q6_K: (208, None, None),
}
PLAIN = (Type.F32, Type.F16, Type.BF16)


def dequantize(stored, kind):
    return gguf.quants.dequantize(stored, kind).astype(np.float32)


def random_tensor(kind, rows, columns, spread, rng):
    """[rows, columns] as bytes [rows, bytes of a row], and as float32."""
    if kind in PLAIN:
        stored = gguf.quants.quantize((spread * rng.standard_normal((rows, columns))).astype(np.float32), kind)
        return stored, dequantize(stored, kind)
    values_a_block, bytes_a_block = gguf.GGML_QUANT_SIZES[kind]
    count = rows * columns // values_a_block
    blocks = rng.integers(0, 256, (count, bytes_a_block), dtype=np.uint8)

    def scaled(by):
        at, least_at, least = SCALES[kind]
        d = by.astype(np.float16)
        blocks[:, at:at + 2] = d.reshape(-1, 1).view(np.uint8)
        if least_at is not None:
            blocks[:, least_at:least_at + 2] = (least * d).astype(np.float16).reshape(-1, 1).view(np.uint8)
        return dequantize(blocks, kind)

    sizes = rng.uniform(0.5, 1.5, count).astype(np.float32)
    # 1/64, because Q4_K's result for a scale of 1 does not fit into half precision.
    values = scaled(sizes * (spread / scaled(sizes / 64).std() / 64))
    return blocks.reshape(rows, -1), values.reshape(rows, columns)
