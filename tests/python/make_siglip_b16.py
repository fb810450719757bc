"""A full-size SigLIP-B/16 (224 px) with random weights, for timing: config.json and model.safetensors.

python tests/python/make_siglip_b16.py OUT_DIR
"""

import argparse
from pathlib import Path

from reference import timm_vit
from reference.fixture_files import setup, write_json, write_tensors
from reference.lively_weights import fill

SIZES = {"img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=Path)
    out = parser.parse_args().out_dir
    setup()
    cfg = timm_vit.config(timm_vit.SIGLIP, **SIZES)
    model = fill(timm_vit.build(cfg), seed=9)
    write_json(out / "config.json", cfg)
    write_tensors(out / "model.safetensors", model.state_dict())
    print(f"{out}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
