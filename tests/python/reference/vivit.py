"""ViViT as transformers computes it."""

import json

from transformers import VivitConfig, VivitForVideoClassification, VivitModel

STREAM = r"(cls_token|position_embeddings|projection\.(weight|bias)|output\.dense\.(weight|bias))$"


def config(**sizes):
    """config.json as in a Hugging Face checkpoint."""
    cfg = json.loads(VivitConfig(**sizes).to_json_string())
    cfg["architectures"] = ["VivitForVideoClassification"]
    return cfg


def build(cfg):
    return VivitModel(VivitConfig(**cfg), add_pooling_layer=False).eval()


def build_with_head(cfg):
    """The published format: a `vivit.` prefix and a `classifier.` head."""
    return VivitForVideoClassification(VivitConfig(**cfg)).eval()


def features(model, clips):
    """[B, F, 3, H, W] to [B, T*S, D]: the last hidden state without the class token."""
    return model(clips).last_hidden_state[:, 1:]


def variants(model, clips):
    """The features of every other id. The original uses fixed sizes of 16 x 14 x 14; here they come from the config."""
    cfg = model.config
    tokens = model(clips).last_hidden_state
    times = cfg.num_frames // cfg.tubelet_size[0]
    grid = tokens[:, 1:].unflatten(1, (times, -1))
    return {
        "features.vivit-google-b-cls-token": tokens[:, :1],
        "features.vivit-google-b-all-tokens": tokens,
        "features.vivit-google-b-all-no-cls": grid[:, ::2].flatten(1, 2),
        "features.vivit-google-b-classemb-at-first-16frames": tokens,
    }
