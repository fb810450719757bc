"""tests/fixtures/mixer: `3davg+linear` projectors and the `cross_attention_avg_lq` fusion."""

from reference.fixture_files import FIXTURES, randn, setup, write_json, write_tensors
from reference.lively_weights import fill
from reference.mixer import Mixer

BATCH = 2
CASES = {
    "four": {
        "widths": [8, 12, 6, 10], "spatial": [256, 256, 196, 196], "temporal": 2, "token_length": 64,
        "llm_width": 16, "query_width": 20,
    },
    "single": {
        "widths": [12], "spatial": [49], "temporal": 3, "token_length": 16, "llm_width": 16, "query_width": 20,
    },
    # Windows that overlap (5 to 3) and repeat (2 to 3).
    "uneven": {
        "widths": [9, 14], "spatial": [25, 4], "temporal": 2, "token_length": 9, "llm_width": 24, "query_width": 10,
    },
}


def case(name, seed, meta):
    mixer = fill(Mixer(**meta), seed, r"attention\.[qk]_proj_weight|\.Q$", 1.3)
    features = []
    for index, (width, tokens) in enumerate(zip(meta["widths"], meta["spatial"])):
        # An offset of its own for every row and channel: means over tokens, which
        # decide the weights, would else be nearly zero.
        offset = randn(seed + 10 + index, BATCH, 1, width)
        features.append(offset + randn(seed + 20 + index, BATCH, meta["temporal"] * tokens, width))
    projected, fused, weights = mixer(features)
    if len(features) > 1:
        assert 0.02 < float(weights.min()) and float(weights.max() - weights.min()) > 0.1, weights
    root = FIXTURES / "mixer" / name
    write_json(root / "meta.json", meta)
    write_tensors(root / "mixer.safetensors", mixer.state_dict())
    io = {f"features.{index}": feature for index, feature in enumerate(features)}
    io |= {f"projected.{index}": tokens for index, tokens in enumerate(projected)}
    write_tensors(root / "io.safetensors", io | {"fused": fused, "weights": weights})
    print(f"mixer/{name}: weights {weights.tolist()}")


def main():
    setup()
    for seed, (name, meta) in enumerate(CASES.items()):
        case(name, 600 + 50 * seed, meta)


if __name__ == "__main__":
    main()
