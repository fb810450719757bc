"""Times PyTorch's SigLIP-B/16 on one clip of 16 frames in float32 or bfloat16, and prints one JSON line.

Only the blocks that the features need are computed: 0 to depth-2, without the last
block, the final norm and the pooling.
"""

import argparse
import json
import statistics
import time

import timm
import torch
from safetensors.torch import load_file

from make_siglip_b16 import SIZES
from reference import timm_vit
from reference.fixture_files import randn

FRAMES = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--weights", help="safetensors file; random weights if omitted")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)

    model = timm_vit.build(timm_vit.config(timm_vit.SIGLIP, **SIZES))
    if args.weights:
        model.load_state_dict(load_file(args.weights))
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    model = model.to(dtype)
    clip = randn(1, 1, FRAMES, 3, SIZES["img_size"], SIZES["img_size"]).to(dtype)
    # The features are those of block depth-2, so the last block is not needed.
    layer = len(model.blocks) - 2
    model.blocks = model.blocks[: layer + 1]

    def run():
        (tokens,) = model.get_intermediate_layers(clip.flatten(0, 1), n={layer})
        return tokens

    tokens = run()  # warm-up
    seconds = []
    for _ in range(args.runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print(
        json.dumps(
            {
                "bench": "siglip-b16-224", "backend": "torch", "torch": torch.__version__, "timm": timm.__version__,
                "dtype": args.dtype, "frames": FRAMES, "threads": args.threads, "runs": args.runs,
                "output": list(tokens.shape),
                "median_s": round(statistics.median(seconds), 4),
                "min_s": round(min(seconds), 4),
                "max_s": round(max(seconds), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
