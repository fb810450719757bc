"""tests/fixtures/llama2: transformers' Llama and Qwen2 at toy sizes, prefill and decode."""

from reference import llama
from reference.fixture_files import setup, write_case
from reference.lively_weights import fill

VOCABULARY = 97


def case(name, seed, stream_scale=1.0, family="llama", padded=False, **sizes):
    """padded: the embedding tables grow as MERV's do for its `<PAD>`, without a change of the config."""
    cfg = llama.config(family, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, **sizes)
    model = llama.build(cfg)
    if padded:
        model.resize_token_embeddings(VOCABULARY + 1, pad_to_multiple_of=64)
    fill(model, seed, llama.STREAM, stream_scale)
    io = llama.random_io(model, seed, VOCABULARY)
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
    # Heads of 12 although width / heads is 10; biases everywhere.
    case(
        "linear-rope", 520,
        hidden_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=12,
        intermediate_size=64, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=False,
        attention_bias=True, mlp_bias=True,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
    )
    # Like Qwen2.5 3B: tied, few key heads, a base of a million.
    case(
        "qwen2-tied", 530, family="qwen2",
        hidden_size=48, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_theta=1000000.0,
    )
    case(
        "qwen2-padded", 540, family="qwen2", padded=True,
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=False,
        rope_theta=1000000.0,
    )


if __name__ == "__main__":
    main()
