"""tests/fixtures/llama2: transformers' Llama at toy sizes, prefill and decode."""

import torch

from reference import llama
from reference.fixture_files import randn, setup, write_case
from reference.lively_weights import fill

VOCABULARY = 97
PROMPT, DECODED, EMBEDDED = 40, 6, 7


def case(name, seed, stream_scale=1.0, **sizes):
    cfg = llama.config(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, **sizes)
    model = fill(llama.build(cfg), seed, llama.STREAM, stream_scale)
    ids = torch.randint(VOCABULARY, (DECODED,), generator=torch.Generator().manual_seed(seed + 2))
    embed_ids = torch.randint(VOCABULARY, (EMBEDDED,), generator=torch.Generator().manual_seed(seed + 3))
    # Prompt rows as large as the model's own embeddings.
    spread = model.model.embed_tokens.weight.std()
    embeds = randn(seed + 1, PROMPT, sizes["hidden_size"], scale=float(spread))

    prefill_logits, cache = llama.prefill(model, embeds)
    decode_logits = []
    for token in ids:
        logits, cache = llama.decode(model, token, cache)
        decode_logits.append(logits)
    io = {
        "embeds": embeds,
        "prefill_logits": prefill_logits,
        "ids": ids,
        "decode_logits": torch.stack(decode_logits),
        "embed_ids": embed_ids,
        "embedded": model.model.embed_tokens(embed_ids),
    }
    write_case(f"llama2/{name}", cfg, llama.weights(model), io)


def main():
    setup()
    # Variances near the epsilon of the RMS norms.
    case(
        "mha", 500, stream_scale=1e-2,
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=80, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=False,
    )
    case(
        "gqa-tied-llama3-rope", 510,
        hidden_size=48, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    # Heads of 12 where width / heads is 10; biases everywhere.
    case(
        "linear-rope", 520,
        hidden_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=12,
        intermediate_size=64, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=False,
        attention_bias=True, mlp_bias=True,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
    )


if __name__ == "__main__":
    main()
