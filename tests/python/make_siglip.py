"""tests/fixtures/siglip: timm's `vit_base_patch16_siglip_224` at toy sizes."""

from reference import timm_vit
from reference.fixture_files import randn, setup, write_case
from reference.lively_weights import fill


def case(name, seed, frames, run_size=None, stream_scale=1.0, **model_args):
    cfg = timm_vit.config(timm_vit.SIGLIP, **model_args)
    model = fill(timm_vit.build(cfg), seed, timm_vit.STREAM, stream_scale)
    size = run_size or model_args["img_size"]
    runner = timm_vit.at_size(cfg, model, size) if run_size else model
    clips = randn(seed + 1, 2, frames, 3, size, size)
    write_case(
        f"siglip/{name}",
        cfg,
        model.state_dict(),
        {"clips": clips, "features": timm_vit.features(runner, clips)},
    )


def variants_case(name, seed, frames, run_size=None, stream_scale=1.0, names=dict, **model_args):
    """The features of two ids. `-all-tokens` is the same as `-all-no-cls`; the original raises an error for it."""
    cfg = timm_vit.config(timm_vit.SIGLIP, **model_args)
    model = fill(timm_vit.build(cfg), seed, timm_vit.STREAM, stream_scale)
    size = run_size or model_args["img_size"]
    runner = timm_vit.at_size(cfg, model, size) if run_size else model
    clips = randn(seed + 1, 2, frames, 3, size, size)
    io = {
        "clips": clips,
        "features.siglip-vit-b16-224px": timm_vit.pooled(runner, clips),
        "features.siglip-vit-b16-224px-all-tokens": timm_vit.features(runner, clips),
    }
    write_case(f"siglip/{name}", cfg, names(model.state_dict()), io)


def main():
    setup()
    case("tiny", 100, 4, img_size=24, patch_size=8, embed_dim=48, depth=3, num_heads=4, mlp_ratio=1.5)
    # A residual stream with a variance near 1e-6, the epsilon of the norms.
    case(
        "frames2-small-activations", 110, 2, stream_scale=1e-3,
        img_size=24, patch_size=6, embed_dim=48, depth=3, num_heads=2, mlp_ratio=1,
    )
    # Position embeddings for 36 px (6x6 tokens), run at 24 px (4x4). Heads of 12.
    case(
        "resampled", 120, 2, run_size=24,
        img_size=36, patch_size=6, embed_dim=36, depth=3, num_heads=3, mlp_ratio=2,
    )
    # Five frames, which is not a multiple of four. Resampled from 5x5 to 3x3 tokens.
    variants_case(
        "variants", 130, 5, run_size=18, names=timm_vit.open_clip_names,
        img_size=30, patch_size=6, embed_dim=36, depth=3, num_heads=3, mlp_ratio=1.5,
    )
    variants_case(
        "variants-small-activations", 140, 2, stream_scale=1e-3,
        img_size=24, patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2,
    )
    # The arguments that turn the model into CLIP's tower: a class token with a position embedding, a norm before the
    # blocks, another activation. Also no biases on queries, keys and values, and LayerScale.
    variants_case(
        "like-clip", 150, 2,
        img_size=12, patch_size=4, embed_dim=24, depth=2, num_heads=2, mlp_ratio=1, class_token=True,
        no_embed_class=False, pre_norm=True, act_layer="quick_gelu", qkv_bias=False, init_values=0.1,
        global_pool="map", num_classes=0, weight_init="skip",
    )


if __name__ == "__main__":
    main()
