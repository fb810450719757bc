"""SigLIP and DINOv2 as timm computes them, from a timm hub style config."""

import json
import tempfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn

SIGLIP = "vit_base_patch16_siglip_224"
DINOV2 = "vit_large_patch14_reg4_dinov2"

# Parameters that write to the residual stream of a timm VisionTransformer.
STREAM = r"(pos_embed|cls_token|reg_token|patch_embed\.proj\.(weight|bias)|blocks\.\d+\.(attn\.proj|mlp\.fc2)\.(weight|bias))$"

MEAN_STD = {
    SIGLIP: ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    DINOV2: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


def config(architecture, **model_args):
    """A config.json as on the timm hub. `model_args` override those of the architecture."""
    mean, std = MEAN_STD[architecture]
    size = model_args["img_size"]
    size = size[0] if isinstance(size, list) else size
    return {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model_args["embed_dim"],
        "global_pool": "map" if architecture == SIGLIP else "token",
        "model_args": model_args,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 0.9 if architecture == SIGLIP else 1.0,
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def build(cfg, img_size=None):
    """The model at its configured image size, or at `img_size`."""
    args = dict(cfg["model_args"])
    if img_size is not None:
        args["img_size"] = img_size
    return timm.create_model(cfg["architecture"], pretrained=False, **{"num_classes": 0, **args}).eval()


def from_folder(cfg, state):
    """The model, loaded by timm from a folder with a config file and weights."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(cfg))
        save_file(state, Path(folder, "model.safetensors"))
        return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def at_size(cfg, model, img_size):
    """A checkpoint for one size, loaded at another with timm's own filter."""
    resized = build(cfg, img_size)
    resized.load_state_dict(checkpoint_filter_fn(dict(model.state_dict()), resized))
    return resized


def features(model, clips):
    """[B, F, 3, H, W] to [B, F*S, D]: block depth-2, no norm, no prefix tokens."""
    batch, frames = clips.shape[:2]
    (tokens,) = model.get_intermediate_layers(clips.flatten(0, 1), n={len(model.blocks) - 2})
    return tokens.reshape(batch, frames * tokens.shape[1], -1)


def pooled(model, clips):
    """[B, F, 3, H, W] to [B, F, D]: the model's own image vector, the class token or the attention pool."""
    batch, frames = clips.shape[:2]
    return model(clips.flatten(0, 1)).reshape(batch, frames, -1)


def features_with_class(model, clips, mean):
    """[B, 1 + F*S, D] or [B, F + F*S, D]: the mean of the class tokens, or all of them, before all patches."""
    batch, frames = clips.shape[:2]
    layers = model.get_intermediate_layers(
        clips.flatten(0, 1), n={len(model.blocks) - 2}, return_prefix_tokens=True
    )
    ((patches, prefix),) = layers
    width = patches.shape[-1]
    classes = prefix[:, 0].reshape(batch, frames, width)
    if mean:
        classes = classes.mean(1, keepdim=True)
    return torch.cat([classes, patches.reshape(batch, -1, width)], 1)


def open_clip_names(state):
    """The state dictionary in open_clip's format for SigLIP, with placeholders for the text tower."""
    named = {f"visual.trunk.{name}": tensor for name, tensor in state.items()}
    named["text.token_embedding.weight"] = torch.zeros(3, 4)
    named["logit_scale"] = torch.tensor(2.0)
    named["logit_bias"] = torch.tensor(-1.0)
    return named
