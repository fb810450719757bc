"""Writes mixer.safetensors: a mixer with random weights for one encoder of width 3 and merv-tiny's
language model of width 128. Needs nothing but Python: python3 make-mixer.py
"""

import json
import random
import struct
from pathlib import Path

ENCODER, LLM, QUERY = 3, 128, 4

SHAPES = {
    "projectors.0.projector.projector.weight": [LLM, ENCODER],
    "projectors.0.projector.projector.bias": [LLM],
    "feature_fusion.Q": [1, QUERY],
    "feature_fusion.attention.q_proj_weight": [QUERY, QUERY],
    "feature_fusion.attention.k_proj_weight": [QUERY, LLM],
    "feature_fusion.attention.v_proj_weight": [QUERY, LLM],
    "feature_fusion.attention.in_proj_bias": [3 * QUERY],
    "feature_fusion.attention.out_proj.weight": [QUERY, QUERY],
    "feature_fusion.attention.out_proj.bias": [QUERY],
}

numbers = random.Random(0)
header, data = {}, b""
for name, shape in SHAPES.items():
    count = shape[0] * (shape[1] if len(shape) == 2 else 1)
    begin = len(data)
    data += struct.pack(f"<{count}f", *(numbers.uniform(-1, 1) for _ in range(count)))
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
Path(__file__).with_name("mixer.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
