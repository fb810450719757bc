"""tests/fixtures/mixer: every projector with every MLP, every fusion, with gradients and costs."""

import shutil

import torch
from torch.utils.flop_counter import FlopCounterMode

from reference.fixture_files import FIXTURES, randn, setup, write_json, write_tensors
from reference.lively_weights import fill
from reference.mixer import CrossAttentionFusion, Mixer

BATCH = 2
FUSION = "cross_attention_avg_lq"
# Two encoders with different widths, grids and numbers of tokens.
TWO = {"widths": [8, 16], "spatial": [16, 9], "temporal": 3, "token_length": 4, "llm_width": 12}
AS_WIDE = TWO | {"widths": [16, 16], "llm_width": 16}
# Neither pooling nor a grid: five tokens per time step.
UNPOOLED = {"widths": [10], "spatial": [5], "temporal": 3, "token_length": 1, "llm_width": 12, "visual_feature_length": 15}
MLPS = ("linear", "gelu-mlp", "fused-gelu-mlp", "none")

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
    # PyTorch stores one matrix for queries, keys and values.
    "equal-widths": TWO | {"query_width": 12},
    # Two rows of three.
    "oblong": TWO | {"spatial": [6, 12], "query_width": 10},
    # The second encoder ends with a single token, which is repeated, or concatenated as it is.
    "single-token": TWO | {"temporal": [4, 1], "token_length": 1, "query_width": 10},
    "single-token-concat": TWO | {"temporal": [4, 1], "token_length": 1, "fusion": "concat"},
    # Several encoders without pooling: one token per frame.
    "gelu-mlp-one-a-frame": TWO | {
        "projector": "gelu-mlp", "spatial": [1, 1], "token_length": 1, "query_width": 10,
    },
}
for pooling in ("avg", "attntv", "conv", "3davg", "3dconv"):
    for mlp in MLPS:
        sizes = AS_WIDE if mlp == "none" else TWO
        # Queries attend to any number of tokens: four and a class token.
        sizes = sizes | {"spatial": [5, 9]} if pooling == "attntv" else sizes
        CASES[f"{pooling}+{mlp}"] = sizes | {"projector": f"{pooling}+{mlp}", "fusion": "concat"}
for mlp in MLPS[:3]:
    CASES[mlp] = UNPOOLED | {"projector": mlp, "fusion": "none"}
for pooling in ("3davg", "3dconv"):
    # Time windows that overlap (5 to 2) and that do not (4 to 2).
    CASES[f"{pooling}+frame2+linear"] = TWO | {
        "temporal": [5, 4], "projector": f"{pooling}+frame2+linear", "fusion": "concat",
    }
for name in ("none", "first", "concat", "concat_channel", "concat_channel_ln", "scalar"):
    sizes = {key: value[:1] if isinstance(value, list) else value for key, value in TWO.items()} if name == "none" else TWO
    CASES[f"fusion-{name}"] = sizes | {"fusion": name}
# The variance of the norms' inputs is near their epsilon.
CASES["conv-small"] = TWO | {"projector": "conv+linear", "fusion": "concat", "scale": 0.004}
CASES["attntv-small"] = TWO | {"projector": "attntv+linear", "fusion": "concat", "scale": 0.004}
CASES["concat_channel_ln-small"] = TWO | {"fusion": "concat_channel_ln", "scale": 0.004}
SMALL = r"(query_tokens|xattn\.proj\.(weight|bias)|^projectors\.\d\.projector\.projector\.(weight|bias))$"


def cost(mixer, features):
    """The number of parameters that a gradient reaches, and the multiply-accumulates of one clip."""
    if getattr(mixer, "feature_fusion", None) and getattr(mixer.feature_fusion, "attention", None):
        if mixer.feature_fusion.attention.in_proj_weight is not None:
            return {}  # a third of that matrix is not used, which gradients do not show
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        projected, fused, _ = mixer([feature[:1].detach() for feature in features])
    macs = counter.get_total_flops() // 2
    if isinstance(getattr(mixer, "feature_fusion", None), CrossAttentionFusion):
        macs -= mixer.feature_fusion.unused_macs(len(features))
    if fused.requires_grad:
        with torch.enable_grad():
            (fused.sum() + sum(x.sum() for x in projected)).backward()
    reached = [p for p in mixer.parameters() if p.grad is not None]
    return {"parameters": sum(p.numel() for p in reached), "macs": macs}


def case(name, seed, meta):
    meta = {"projector": "3davg+linear", "fusion": FUSION} | meta
    scale = meta.pop("scale", 1.0)
    arguments = meta | {"fusion_name": meta["fusion"]}
    arguments.pop("fusion")
    mixer = Mixer(**arguments)
    if scale == 1.0:
        fill(mixer, seed, r"attention\.[qk]_proj_weight|\.Q$", 1.3)
    else:
        fill(mixer, seed, SMALL, 10 * scale)
    features = []
    for index, (width, spatial, steps) in enumerate(zip(meta["widths"], meta["spatial"], mixer.temporal)):
        # A separate offset for every row and channel. Otherwise the means over tokens,
        # which determine the weights, would be nearly zero.
        offset = randn(seed + 10 + index, BATCH, 1, width)
        features.append(scale * (offset + randn(seed + 20 + index, BATCH, steps * spatial, width)))
    for feature in features:
        feature.requires_grad_()
    with torch.enable_grad():
        projected, fused, weights = mixer(features)
        fused_grad = randn(seed + 30, *fused.shape)
        (fused * fused_grad).sum().backward()
    io = {f"features.{index}": feature for index, feature in enumerate(features)}
    # `first` has no gradient for the other encoders.
    io |= {f"features_grad.{index}": x.grad for index, x in enumerate(features) if x.grad is not None}
    io |= {f"projected.{index}": tokens for index, tokens in enumerate(projected)}
    io |= {"fused": fused, "fused_grad": fused_grad}
    if weights is not None:
        io["weights"] = weights
        if len(features) > 1:
            assert 0.02 < float(weights.min()) and float(weights.max() - weights.min()) > 0.1, weights
    mixer.zero_grad()
    meta = meta | {"temporal": mixer.temporal, "visual_feature_length": max(x.shape[1] for x in projected)}
    meta |= cost(mixer, features)
    root = FIXTURES / "mixer" / name
    write_json(root / "meta.json", meta)
    write_tensors(root / "mixer.safetensors", mixer.state_dict())
    write_tensors(root / "io.safetensors", io)
    print(f"mixer/{name}: {tuple(fused.shape)}, {meta.get('parameters')} parameters, {meta.get('macs')} MACs")


def main():
    setup()
    shutil.rmtree(FIXTURES / "mixer", ignore_errors=True)
    for seed, (name, meta) in enumerate(CASES.items()):
        case(name, 600 + 50 * seed, meta)


if __name__ == "__main__":
    main()
