"""ViViT as transformers computes it."""

import json

from transformers import VivitConfig, VivitForVideoClassification, VivitModel

STREAM = r"(cls_token|position_embeddings|projection\.(weight|bias)|output\.dense\.(weight|bias))$"


def config(**sizes):
    """config.json as a Hugging Face checkpoint has it."""
    cfg = json.loads(VivitConfig(**sizes).to_json_string())
    cfg["architectures"] = ["VivitForVideoClassification"]
    return cfg


def build(cfg):
    return VivitModel(VivitConfig(**cfg), add_pooling_layer=False).eval()


def build_with_head(cfg):
    """As published: a `vivit.` prefix and a `classifier.` head."""
    return VivitForVideoClassification(VivitConfig(**cfg)).eval()


def features(model, clips):
    """[B, F, 3, H, W] to [B, T*S, D]: the last hidden state without the class token."""
    return model(clips).last_hidden_state[:, 1:]
