"""The PyPI package `languagebind`, of which only the video model is imported.

The package's own `__init__` imports audio, depth and training extras. Empty
parent packages replace it.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

import torch

# Parameters that write to the residual stream after `pre_layrnorm`, and to that norm itself.
STREAM = (
    r"(vision_model\.(embeddings\.(class_embedding|patch_embedding\.weight|position_embedding\.weight)"
    r"|pre_layrnorm\.(weight|bias)"
    r"|encoder\.layers\.\d+\.(temporal_embedding|((temporal|self)_attn\.out_proj|mlp\.fc2)\.(weight|bias))))$"
)


def _import(name):
    if "languagebind" not in sys.modules:
        root = Path(importlib.util.find_spec("languagebind").origin).parent
        for package, folder in (("languagebind", root), ("languagebind.video", root / "video")):
            module = types.ModuleType(package)
            module.__path__ = [str(folder)]
            sys.modules[package] = module
    return importlib.import_module(f"languagebind.video.{name}")


def config(hidden_act, num_frames, lora_r=0, **vision):
    """The published config.json at toy size, as a dictionary.

    lora_r: rank of the adapters of the temporal attention; 0 if they are merged.
    """
    text = {
        "vocab_size": 29, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 5, "projection_dim": 12,
        "hidden_act": hidden_act, "layer_norm_eps": 1e-5, "model_type": "clip_text_model",
    }
    vision = {
        "num_channels": 3, "hidden_act": hidden_act, "num_frames": num_frames, "add_time_attn": True,
        "layer_norm_eps": 1e-5, "projection_dim": 12, "force_patch_dropout": 0.0, "lora_r": lora_r,
        "attention_dropout": 0.0, "model_type": "clip_vision_model", **vision,
    }
    if lora_r:
        vision["lora_alpha"] = 12
    return {
        "architectures": ["LanguageBindVideo"], "model_type": "LanguageBindVideo", "projection_dim": 12,
        "logit_scale_init_value": 2.6592, "text_config": text, "vision_config": vision,
    }


def build(cfg):
    configuration = _import("configuration_video").LanguageBindVideoConfig(
        text_config=dict(cfg["text_config"]),
        vision_config=dict(cfg["vision_config"]),
        projection_dim=cfg["projection_dim"],
        attn_implementation="eager",
    )
    for part in (configuration, configuration.text_config, configuration.vision_config):
        part._attn_implementation = "eager"
    return _import("modeling_video").LanguageBindVideo(configuration).eval()


def weights(model):
    """The state dictionary, with the position buffers that are also in the published file."""
    state = dict(model.state_dict())
    for part in ("text_model", "vision_model"):
        positions = state[f"{part}.embeddings.position_embedding.weight"].shape[0]
        state[f"{part}.embeddings.position_ids"] = torch.arange(positions).unsqueeze(0)
    return state


def older_peft_names(state):
    """Adapters as peft named them when LanguageBind_Video was published: no `base_layer`."""
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state.items()}


def hidden(model, clips):
    """[B, F, 3, H, W] to [B, F, 1 + S, D]: hidden_states[-2].

    The model processes frames in groups of its `num_frames`.
    """
    batch, frames = clips.shape[:2]
    output = model.vision_model(clips.transpose(1, 2), output_hidden_states=True)
    hidden = output.hidden_states[-2]
    return hidden.reshape(batch, frames, hidden.shape[-2], hidden.shape[-1])


def features(model, clips):
    """[B, F, 3, H, W] to [B, F*S, D]: without class tokens."""
    return hidden(model, clips)[:, :, 1:].flatten(1, 2)


def variants(model, clips):
    """The features of every other id."""
    tokens = hidden(model, clips)
    classes = tokens[:, :, 0]
    at_first = torch.cat([classes.mean(1, keepdim=True), tokens[:, :, 1:].flatten(1, 2)], 1)
    return {
        "features.languagebind-video": tokens.flatten(1, 2),
        "features.languagebind-video-averagetoken": tokens.mean(-2),
        "features.languagebind-video-classemb": classes,
        "features.languagebind-video-classemb-at-first": at_first,
    }
