"""tests/fixtures/languagebind: LanguageBind's video model at toy sizes."""

from reference import languagebind_video
from reference.fixture_files import randn, setup, write_case
from reference.lively_weights import fill


def case(name, seed, frames, hidden_act, num_frames, stream_scale=1.0, **vision):
    cfg = languagebind_video.config(hidden_act, num_frames, **vision)
    model = fill(languagebind_video.build(cfg), seed, languagebind_video.STREAM, stream_scale)
    size = vision["image_size"]
    clips = randn(seed + 1, 2, frames, 3, size, size)
    write_case(
        f"languagebind/{name}",
        cfg,
        languagebind_video.weights(model),
        {"clips": clips, "features": languagebind_video.features(model, clips)},
    )


def variants_case(name, seed, frames, num_frames, stream_scale=1.0, **vision):
    cfg = languagebind_video.config("gelu", num_frames, **vision)
    model = fill(languagebind_video.build(cfg), seed, languagebind_video.STREAM, stream_scale)
    clips = randn(seed + 1, 2, frames, 3, vision["image_size"], vision["image_size"])
    io = {"clips": clips, **languagebind_video.variants(model, clips)}
    write_case(f"languagebind/{name}", cfg, languagebind_video.weights(model), io)


def adapters_cases(seed):
    """One model with separate low-rank adapters, under the names of newer and of older versions of peft."""
    vision = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
        "patch_size": 8, "image_size": 16,
    }
    cfg = languagebind_video.config("gelu", 2, lora_r=3, **vision)
    model = fill(languagebind_video.build(cfg), seed)
    clips = randn(seed + 1, 2, 4, 3, 16, 16)
    io = {"clips": clips, "features": languagebind_video.features(model, clips)}
    state = languagebind_video.weights(model)
    write_case("languagebind/adapters", cfg, state, io)
    write_case("languagebind/adapters-older-names", cfg, languagebind_video.older_peft_names(state), io)


def main():
    setup()
    # F = t.
    case(
        "tiny", 300, 4, "gelu", 4,
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        patch_size=8, image_size=24,
    )
    # F = 2t: two separate groups of three. Heads of 12.
    case(
        "two-groups", 310, 6, "quick_gelu", 3,
        hidden_size=36, num_hidden_layers=3, num_attention_heads=3, intermediate_size=64,
        patch_size=6, image_size=18,
    )
    # A residual stream with a variance near 1e-5, the epsilon of the norms.
    case(
        "small-activations", 320, 4, "gelu", 2, stream_scale=3e-3,
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        patch_size=8, image_size=24,
    )
    variants_case(
        "variants", 330, 6, 3,
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
        patch_size=8, image_size=24,
    )
    variants_case(
        "variants-small-activations", 340, 2, 2, stream_scale=3e-3,
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        patch_size=8, image_size=16,
    )
    adapters_cases(350)


if __name__ == "__main__":
    main()
