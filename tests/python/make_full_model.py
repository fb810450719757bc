"""merv-full with random weights, for the measurements of `make bench-memory`.

    python make_full_model.py OUT_DIR

Writes the four encoders at their published sizes (f32, under the published names), the mixer, Llama-2 7B in 4 bits as
llama.cpp quantises it (Q4_0, with the output in Q6_K), and OUT_DIR/registry.toml. Takes 8 GB on the disk.
"""

import argparse
import gc
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

from full_size import ENCODERS
from make_gguf import NAMES
from reference.fixture_files import FIXTURES, setup, write_tensors
from reference.ggml_blocks import random_tensor
from reference.lively_weights import fill
from reference.mixer import Mixer

PLUGINS = {
    "languagebind-video-noclass": "languagebind",
    "dinov2-video-all-tokens": "dinov2",
    "vivit-google-b-all-no-cls-16frames": "vivit",
    "siglip-vit-b16-224px-all-no-cls": "siglip",
}
WIDTHS = {"languagebind": 1024, "dinov2": 1024, "vivit": 768, "siglip": 768}
SPATIAL = {"languagebind": 256, "dinov2": 256, "vivit": 196, "siglip": 196}
TEMPORAL, TOKEN_LENGTH, QUERY_WIDTH = 16, 64, 3072
VOCABULARY, WIDTH, HIDDEN, LAYERS, HEADS = 32000, 4096, 11008, 32, 32
# Random rows that all matrices of a type and width share, because drawing 7 billion numbers would take too long.
ROWS = 1024


def encoders(root):
    for name, plugin in PLUGINS.items():
        make, _ = ENCODERS[name]
        state, model, _ = make()
        write_tensors(root / f"{plugin}.safetensors", state)
        del state, model
        gc.collect()


def mixer(root):
    made = Mixer(
        list(WIDTHS.values()), spatial=list(SPATIAL.values()), temporal=TEMPORAL, token_length=TOKEN_LENGTH,
        llm_width=WIDTH, query_width=QUERY_WIDTH,
    )
    write_tensors(root / "mixer.safetensors", fill(made, 6).state_dict())


def llm(root):
    writer = gguf.GGUFWriter(root / "llm.gguf", "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.default_rng(8)
    drawn = {}

    def matrix(name, outputs, inputs, kind=Type.Q4_0):
        if (kind, inputs) not in drawn:
            drawn[kind, inputs], _ = random_tensor(kind, ROWS, inputs, inputs**-0.5, rng)
        rows = drawn[kind, inputs]
        stored = np.broadcast_to(rows, (-(-outputs // ROWS), *rows.shape)).reshape(-1, rows.shape[1])[:outputs]
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=kind)

    matrix(NAMES["model.embed_tokens"], VOCABULARY, WIDTH)
    matrix(NAMES["lm_head"], VOCABULARY, WIDTH, Type.Q6_K)
    writer.add_tensor(f"{NAMES['model.norm']}.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
            matrix(f"blk.{layer}.{NAMES[name]}", WIDTH, WIDTH)
        for name in ("mlp.gate_proj", "mlp.up_proj"):
            matrix(f"blk.{layer}.{NAMES[name]}", HIDDEN, WIDTH)
        matrix(f"blk.{layer}.{NAMES['mlp.down_proj']}", WIDTH, HIDDEN)
        for name in ("input_layernorm", "post_attention_layernorm"):
            writer.add_tensor(f"blk.{layer}.{NAMES[name]}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def registry(root):
    parts = ['schema = 1\nid = "merv-full-random"\n']
    for name, plugin in PLUGINS.items():
        _, frames = ENCODERS[name]
        parts.append(
            f'[[encoders]]\nid = "{name}"\nplugin = "{plugin}"\nnum_frames = {frames}\n'
            f'weights = {{ path = "{plugin}.safetensors" }}\n'
        )
    parts.append(
        '[llm]\nid = "llama"\nplugin = "llama2"\nweights = { path = "llm.gguf" }\n'
        f'tokenizer = {{ path = "{FIXTURES / "lively/llm/tokenizer.json"}" }}\nprompt = "pure"\n'
    )
    parts.append(
        '[mixer]\nprojector = "3davg+linear"\nfusion = "cross_attention_avg_lq"\n'
        f"token_length = {TOKEN_LENGTH}\nvisual_feature_length = {TOKEN_LENGTH * TEMPORAL}\n"
        'weights = { path = "mixer.safetensors" }\n'
    )
    (root / "registry.toml").write_text("\n".join(parts))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=Path)
    root = parser.parse_args().out_dir
    root.mkdir(parents=True, exist_ok=True)
    setup()
    torch.manual_seed(0)
    encoders(root)
    mixer(root)
    llm(root)
    registry(root)


if __name__ == "__main__":
    main()
