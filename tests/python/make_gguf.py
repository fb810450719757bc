"""tests/fixtures/quantized: ggml's blocks and their values. tests/fixtures/llama2/gguf-*: tiny quantised models as
llama.cpp's converter would write them, with the results of transformers on the same values."""

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

from reference import llama
from reference.fixture_files import FIXTURES, setup, write_tensors
from reference.ggml_blocks import SCALES, random_tensor
from reference.lively_weights import fill

VOCABULARY = 96
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
}


def gguf_name(name):
    name = name.replace("model.layers.", "blk.")
    for upstream, theirs in NAMES.items():
        name = name.replace(upstream, theirs)
    return name


def neighbours(rows, heads):
    """The rows of a query or key in llama.cpp's order for Llamas: the halves of a head interleaved."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def halves(rows, heads):
    shape = rows.shape
    return rows.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def rope_factors(cfg):
    """The frequency factors that llama.cpp's converter writes for a `rope_scaling` of type `llama3`."""
    scaling = cfg["rope_scaling"]
    dim = cfg["hidden_size"] // cfg["num_attention_heads"]
    wavelengths = 2 * np.pi * cfg["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float32) / dim)
    context, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = (context / wavelengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(wavelengths > context / low, factor, between)
    return np.where(wavelengths < context / high, 1.0, factors).astype(np.float32)


def case(name, seed, family, kinds, table, head, **sizes):
    """kinds: the types of a layer's matrices, in rotation."""
    cfg = llama.config(family, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, **sizes)
    model = fill(llama.build(cfg), seed)
    rng = np.random.default_rng(seed)
    folder = FIXTURES / "llama2" / name
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / "model.gguf", family)
    writer.add_block_count(cfg["num_hidden_layers"])
    writer.add_context_length(cfg["max_position_embeddings"])
    writer.add_embedding_length(cfg["hidden_size"])
    writer.add_feed_forward_length(cfg["intermediate_size"])
    writer.add_head_count(cfg["num_attention_heads"])
    writer.add_head_count_kv(cfg["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(cfg["rms_norm_eps"])
    writer.add_rope_freq_base(cfg["rope_theta"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    matrices = 0
    for full, parameter in sorted(model.named_parameters()):
        values = parameter.detach().numpy()
        if family == "llama" and ("q_proj" in full or "k_proj" in full):
            heads = cfg["num_attention_heads" if "q_proj" in full else "num_key_value_heads"]
        else:
            heads = None
        if values.ndim == 1:
            stored, kind = values if heads is None else neighbours(values, heads), Type.F32
        else:
            if full.startswith("model.layers."):
                kind = kinds[matrices % len(kinds)]
                matrices += 1
            else:
                kind = table if "embed" in full else head
            stored, values = random_tensor(kind, *values.shape, float(values.std()), rng)
            if heads is not None:
                values = halves(values, heads)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(values.copy()))
        writer.add_tensor(gguf_name(full), stored, raw_dtype=kind)
    if cfg.get("rope_scaling"):
        writer.add_tensor("rope_freqs.weight", rope_factors(cfg))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_tensors(folder / "io.safetensors", llama.random_io(model, seed, VOCABULARY))
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"llama2/{name}: {matrices} matrices of layers, {size / 1e3:.0f} kB")


def blocks():
    """Five blocks of each type: `<type>.bytes` and `<type>.values`."""
    rng = np.random.default_rng(7)
    tensors = {}
    for kind in SCALES:
        values_a_block, _ = gguf.GGML_QUANT_SIZES[kind]
        stored, values = random_tensor(kind, 1, 5 * values_a_block, 0.1, rng)
        tensors[f"{kind.name}.bytes"] = torch.from_numpy(stored.reshape(-1).copy())
        tensors[f"{kind.name}.values"] = torch.from_numpy(values.reshape(-1).copy())
    write_tensors(FIXTURES / "quantized" / "blocks.safetensors", tensors)


def main():
    setup()
    blocks()
    # As in Llama 3.1: scaled frequencies in a separate tensor, and a separate output.
    case(
        "gguf-llama-k-quants", 600, "llama",
        [Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.Q3_K, Type.Q2_K], Type.Q6_K, Type.Q4_K,
        hidden_size=256, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=256, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    case(
        "gguf-qwen2-mixed", 610, "qwen2",
        [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.F16, Type.BF16, Type.F32],
        Type.Q8_0, None,
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=96, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_theta=1000000.0,
    )


if __name__ == "__main__":
    main()
