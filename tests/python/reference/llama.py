"""Llama and Qwen2 as transformers computes them, step by step with their cache."""

import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}

STREAM = r"(embed_tokens\.weight|o_proj\.(weight|bias)|down_proj\.(weight|bias))$"


def config(family="llama", **sizes):
    """config.json as `save_pretrained` writes it."""
    config_class, model_class = FAMILIES[family]
    cfg = json.loads(config_class(attn_implementation="eager", **sizes).to_json_string())
    return {"architectures": [model_class.__name__], **cfg}


def build(cfg):
    config_class, model_class = FAMILIES[cfg["model_type"]]
    cfg = config_class(**cfg)
    cfg._attn_implementation = "eager"
    return model_class(cfg).eval()


def weights(model):
    """The state dictionary, without a head that is tied to the embedding."""
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


def io(model, embeds, ids, embed_ids):
    """The tensors of a fixture: a prefill of `embeds` [L, D], then `ids` one by one."""
    prefill_logits, cache = prefill(model, embeds)
    decode_logits = []
    for token in ids:
        logits, cache = decode(model, token, cache)
        decode_logits.append(logits)
    return {
        "embeds": embeds,
        "prefill_logits": prefill_logits,
        "ids": ids,
        "decode_logits": torch.stack(decode_logits),
        "embed_ids": embed_ids,
        "embedded": model.model.embed_tokens(embed_ids),
    }


def random_io(model, seed, vocabulary, prompt=40, decoded=6, embedded=7):
    """`io` of random inputs. The rows of the prompt have the scale of the model's embeddings."""
    def ids(count, seed):
        return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(seed))

    spread = float(model.model.embed_tokens.weight.std())
    rows = torch.randn(prompt, model.config.hidden_size, generator=torch.Generator().manual_seed(seed + 1))
    return io(model, spread * rows, ids(decoded, seed + 2), ids(embedded, seed + 3))
