"""One encoder at its published size: random weights under the published names, a clip, and its features.

python tests/python/full_size.py ENCODER_ID OUT_DIR [--threads N]

Writes OUT_DIR/model.safetensors and OUT_DIR/io.safetensors; prints one JSON line with the time of the second
run and the peak resident memory of both runs, including the clip and the model.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch

from reference import hiera_video, languagebind_video, timm_vit, vivit
from reference.fixture_files import randn, setup, write_tensors
from reference.lively_weights import fill

SIGLIP_B16 = {"img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12}
DINOV2_L14 = {
    "img_size": 518, "patch_size": 14, "embed_dim": 1024, "depth": 24, "num_heads": 16,
    "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5,
}
CLIP_L14 = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "patch_size": 14, "image_size": 224,
}
HIERA_B = {
    "input_size": [16, 224, 224], "embed_dim": 96, "num_heads": 1, "stages": [2, 3, 16, 3],
    "mask_unit_attn": [True, True, False, False], "q_pool": 3, "num_classes": 400,
}


def timm_model(cfg, seed):
    """The model with the weights of the file, and the one that runs at 224 pixels."""
    model = fill(timm_vit.build(cfg), seed)
    return model.state_dict(), timm_vit.at_size(cfg, model, 224), timm_vit.features


def siglip():
    return timm_model(timm_vit.config(timm_vit.SIGLIP, **SIGLIP_B16), 1)


def dinov2():
    return timm_model(timm_vit.config(timm_vit.DINOV2, **DINOV2_L14), 2)


def languagebind():
    # The text tower is small, because the plugin does not use it.
    model = fill(languagebind_video.build(languagebind_video.config("gelu", 8, **CLIP_L14)), 3)
    return languagebind_video.weights(model), model, languagebind_video.features


def vivit_base():
    model = fill(vivit.build_with_head(vivit.config()), 4)
    return model.state_dict(), model.vivit, vivit.features


def hiera_base():
    model = fill(hiera_video.build(hiera_video.config(**HIERA_B)), 5)
    return model.state_dict(), model, hiera_video.features


ENCODERS = {
    "siglip-vit-b16-224px-all-no-cls": (siglip, 16),
    "dinov2-video-all-tokens": (dinov2, 16),
    "languagebind-video-noclass": (languagebind, 16),
    "vivit-google-b-all-no-cls-16frames": (vivit_base, 32),
    "hiera-base-video": (hiera_base, 16),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", choices=ENCODERS)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    setup()
    torch.set_num_threads(args.threads)

    make, frames = ENCODERS[args.encoder]
    state, model, features = make()
    write_tensors(args.out_dir / "model.safetensors", state)
    del state
    clips = randn(7, 1, frames, 3, 224, 224)
    found = features(model, clips)
    start = time.perf_counter()
    again = features(model, clips)
    seconds = time.perf_counter() - start
    assert torch.equal(found, again)
    write_tensors(args.out_dir / "io.safetensors", {"clips": clips, "features": found})
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "resident_bytes": resident, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
