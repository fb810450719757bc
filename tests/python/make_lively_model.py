"""tests/fixtures/lively: the architecture of merv-full at toy size, with fixed random weights.

At the end, runs the model on real and synthetic clips, and asserts that its
answers vary enough for tests.
"""

import shutil

import numpy as np
import torch

from reference import languagebind_video, llama, timm_vit, toy_tokenizer, vivit
from reference.fixture_files import ASSETS, FIXTURES, setup, write_json, write_tensors
from reference.lively_weights import fill
from reference.mixer import Mixer
from reference.pipeline import IMAGE_SIZE, TEMPORAL, TOKEN_LENGTH, Pipeline
from reference.video_frames import decode_agreed

ROOT = FIXTURES / "lively"
VOCABULARY, BOS, EOS, PAD = 1024, 1, 2, 1023
WIDTHS = {"languagebind": 64, "dinov2": 64, "vivit": 64, "siglip": 64}
LLM_WIDTH, QUERY_WIDTH = 96, 80
STEPS = 32
PROMPT = "Describe what is happening in this video."


def write_model(folder, config, weights):
    write_json(ROOT / folder / "config.json", config)
    write_tensors(ROOT / folder / "model.safetensors", weights)


def encoders():
    cfg = timm_vit.config(
        timm_vit.SIGLIP, img_size=IMAGE_SIZE, patch_size=8, embed_dim=WIDTHS["siglip"], depth=3, num_heads=4, mlp_ratio=2
    )
    write_model("siglip", cfg, fill(timm_vit.build(cfg), 1).state_dict())

    cfg = timm_vit.config(
        timm_vit.DINOV2, img_size=IMAGE_SIZE, patch_size=8, embed_dim=WIDTHS["dinov2"], depth=4, num_heads=4,
        mlp_ratio=2, reg_tokens=4, no_embed_class=True, init_values=1e-5,
    )
    write_model("dinov2", cfg, fill(timm_vit.build(cfg), 2).state_dict())

    cfg = languagebind_video.config(
        "gelu", 8, hidden_size=WIDTHS["languagebind"], num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=128, patch_size=8, image_size=IMAGE_SIZE,
    )
    write_model("languagebind", cfg, languagebind_video.weights(fill(languagebind_video.build(cfg), 3)))

    cfg = vivit.config(
        image_size=IMAGE_SIZE, num_frames=32, tubelet_size=[2, 8, 8], hidden_size=WIDTHS["vivit"],
        num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
    )
    write_model("vivit", cfg, fill(vivit.build_with_head(cfg), 4).state_dict())


def mixer():
    made = Mixer(
        list(WIDTHS.values()), spatial=[64] * 4, temporal=TEMPORAL, token_length=TOKEN_LENGTH,
        llm_width=LLM_WIDTH, query_width=QUERY_WIDTH,
    )
    # The keys are means over all tokens, so clips differ little there. A larger
    # query and key make the difference visible.
    fill(made, 38, r"\.Q$|k_proj_weight", 1.5)
    write_tensors(ROOT / "mixer.safetensors", made.state_dict())


def llm():
    cfg = llama.config(
        vocab_size=VOCABULARY, hidden_size=LLM_WIDTH, intermediate_size=192, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, rms_norm_eps=1e-5,
        tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
    )
    model = fill(llama.build(cfg), 7, r"embed_tokens\.weight", 4.0)
    with torch.no_grad():
        # Sharper attention, because otherwise hundreds of visual tokens average out.
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight *= 1.5
            layer.self_attn.k_proj.weight *= 1.5
    # Special tokens and bytes are possible but rare, so that answers are readable.
    rare = torch.tensor([*range(259), PAD])
    with torch.no_grad():
        model.lm_head.weight[rare] *= 0.2
    write_model("llm", {**cfg, "untrained": True}, llama.weights(model))
    tokenizer = toy_tokenizer.train(VOCABULARY)
    for text, index in (("<unk>", 0), ("<s>", BOS), ("</s>", EOS), ("<PAD>", PAD)):
        assert tokenizer.token_to_id(text) == index
    tokenizer.save(str(ROOT / "llm" / "tokenizer.json"))


def moving_square(colour, step):
    """32 frames of a square that moves over grey noise."""
    random = np.random.default_rng(step + 10)
    frames = random.integers(90, 130, (32, 90, 120, 3)).astype(np.uint8)
    for index, frame in enumerate(frames):
        left = (10 + step * index) % 90
        frame[30:60, left : left + 30] = colour
    return frames


def check():
    pipeline = Pipeline(ROOT)
    _, film = decode_agreed(ASSETS / "bigbuckbunny.mp4", 32)
    films = {
        "big buck bunny": film,
        "red square": moving_square((220, 30, 30), 2),
        "blue square": moving_square((20, 40, 230), -1),
    }
    seen = []
    for name, frames in films.items():
        result = pipeline.run(frames, PROMPT, STEPS)
        logits, tokens, weights = result["logits"], result["tokens"].tolist(), result["mixer_weights"][0]
        top = logits.topk(2).values
        margin = float(((top[:, 0] - top[:, 1]) / logits.std(dim=1)).min())
        print(f"{name}: weights {[round(w, 4) for w in weights.tolist()]}, margin {margin:.4f}, {len(set(tokens))} kinds")
        print(f"  {result['text']!r}")
        if name == "big buck bunny":
            assert margin > 1e-3, margin
        assert EOS not in tokens[:8]
        assert len(set(tokens)) >= 10
        assert 0.05 < float(weights.min()) and float(weights.max() - weights.min()) > 0.1
        for other_tokens, other_weights in seen:
            assert tokens != other_tokens
            assert float((weights - other_weights).abs().max()) > 0.01
        seen.append((tokens, weights))


def main():
    setup()
    for folder in ("siglip", "dinov2", "languagebind", "vivit", "llm"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    encoders()
    mixer()
    llm()
    check()
    size = sum(file.stat().st_size for file in ROOT.rglob("*") if file.is_file())
    print(f"lively: {size / 1e6:.2f} MB")
    assert size < 6e6


if __name__ == "__main__":
    main()
