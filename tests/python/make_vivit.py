"""tests/fixtures/vivit: transformers' ViViT at toy sizes."""

from reference import vivit
from reference.fixture_files import randn, setup, write_case
from reference.lively_weights import fill


def case(name, seed, published_names, stream_scale=1.0, variants=False, **sizes):
    cfg = vivit.config(**sizes)
    if published_names:
        whole = fill(vivit.build_with_head(cfg), seed, vivit.STREAM, stream_scale)
        model = whole.vivit
    else:
        whole = model = fill(vivit.build(cfg), seed, vivit.STREAM, stream_scale)
    size = sizes["image_size"]
    clips = randn(seed + 1, 2, sizes["num_frames"], 3, size, size)
    found = vivit.variants(model, clips) if variants else {"features": vivit.features(model, clips)}
    write_case(f"vivit/{name}", cfg, whole.state_dict(), {"clips": clips, **found})


def main():
    setup()
    case(
        "tiny", 400, True,
        image_size=24, num_frames=8, tubelet_size=[2, 8, 8],
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=72,
    )
    # No prefix, no head. Heads of 12. Variances near the norms' epsilon.
    case(
        "frames6-small-activations", 410, False, stream_scale=1e-3,
        image_size=18, num_frames=6, tubelet_size=[2, 6, 6],
        hidden_size=36, num_hidden_layers=3, num_attention_heads=3, intermediate_size=72,
    )
    # Three time steps, of which `all-no-cls` keeps every second one: two.
    case(
        "variants", 420, True, variants=True,
        image_size=16, num_frames=6, tubelet_size=[2, 8, 8],
        hidden_size=36, num_hidden_layers=3, num_attention_heads=3, intermediate_size=48,
    )
    case(
        "variants-small-activations", 430, False, stream_scale=1e-3, variants=True,
        image_size=18, num_frames=8, tubelet_size=[2, 6, 6],
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
    )


if __name__ == "__main__":
    main()
