"""Llama as transformers computes it, step by step with its cache."""

import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM

STREAM = r"(embed_tokens\.weight|o_proj\.(weight|bias)|down_proj\.(weight|bias))$"


def config(**sizes):
    """config.json as `save_pretrained` writes it."""
    cfg = LlamaConfig(attn_implementation="eager", **sizes)
    cfg = json.loads(cfg.to_json_string())
    return {"architectures": ["LlamaForCausalLM"], **cfg}


def build(cfg):
    cfg = LlamaConfig(**cfg)
    cfg._attn_implementation = "eager"
    return LlamaForCausalLM(cfg).eval()


def weights(model):
    """The state dictionary, without a head that is only the embedding again."""
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return state


def prefill(model, embeds):
    """[L, D] to the logits of all positions [L, V] and the cache."""
    output = model(inputs_embeds=embeds.unsqueeze(0), use_cache=True)
    return output.logits[0], output.past_key_values


def decode(model, token, cache):
    """One token to its logits [V] and the longer cache."""
    output = model(input_ids=torch.tensor([[int(token)]]), past_key_values=cache, use_cache=True)
    return output.logits[0, -1], output.past_key_values
