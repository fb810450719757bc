"""tests/fixtures/dinov2: timm's `vit_large_patch14_reg4_dinov2` at toy sizes."""

from reference import timm_vit
from reference.fixture_files import randn, setup, write_case
from reference.lively_weights import fill


def case(name, seed, frames, run_size=None, stream_scale=1.0, **model_args):
    model_args = {"patch_size": 4, "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5, **model_args}
    cfg = timm_vit.config(timm_vit.DINOV2, **model_args)
    model = fill(timm_vit.build(cfg), seed, timm_vit.STREAM, stream_scale)
    size = run_size or model_args["img_size"]
    runner = timm_vit.at_size(cfg, model, size) if run_size else model
    clips = randn(seed + 1, 2, frames, 3, size, size)
    write_case(
        f"dinov2/{name}",
        cfg,
        model.state_dict(),
        {"clips": clips, "features": timm_vit.features(runner, clips)},
    )


def variants_case(name, seed, frames, run_size, stream_scale=1.0, **model_args):
    """The features of the other three ids."""
    model_args = {"patch_size": 4, "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5, **model_args}
    cfg = timm_vit.config(timm_vit.DINOV2, **model_args)
    model = fill(timm_vit.build(cfg), seed, timm_vit.STREAM, stream_scale)
    runner = timm_vit.at_size(cfg, model, run_size)
    clips = randn(seed + 1, 2, frames, 3, run_size, run_size)
    io = {
        "clips": clips,
        "features.dinov2-video": timm_vit.pooled(runner, clips),
        "features.dinov2-video-all-token-with-cls": timm_vit.features_with_class(runner, clips, mean=False),
        "features.dinov2-video-classemb-at-first": timm_vit.features_with_class(runner, clips, mean=True),
    }
    write_case(f"dinov2/{name}", cfg, model.state_dict(), io)


def other_grid_case(name, seed, frames, img_size, stored_size, **model_args):
    """Position embeddings for `stored_size` with a config for `img_size`, loaded by timm from the folder."""
    model_args = {"patch_size": 4, "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5, **model_args}
    stored_cfg = timm_vit.config(timm_vit.DINOV2, img_size=stored_size, **model_args)
    model = fill(timm_vit.build(stored_cfg), seed, timm_vit.STREAM)
    clips = randn(seed + 1, 2, frames, 3, img_size, img_size)
    cfg = timm_vit.config(timm_vit.DINOV2, img_size=img_size, **model_args)
    loaded = timm_vit.from_folder(cfg, model.state_dict())
    features = timm_vit.features(loaded, clips)
    write_case(f"dinov2/{name}", cfg, model.state_dict(), {"clips": clips, "features": features})


def placed_class_case(name, seed, frames, run_size, **model_args):
    """Class and register tokens with position embeddings, and another perceptron."""
    cfg = timm_vit.config(timm_vit.DINOV2, **model_args)
    model = fill(timm_vit.build(cfg), seed, timm_vit.STREAM)
    runner = timm_vit.at_size(cfg, model, run_size)
    clips = randn(seed + 1, 2, frames, 3, run_size, run_size)
    io = {
        "clips": clips,
        "features.dinov2-video": timm_vit.pooled(runner, clips),
        "features.dinov2-video-all-tokens": timm_vit.features(runner, clips),
    }
    write_case(f"dinov2/{name}", cfg, model.state_dict(), io)


def main():
    setup()
    case("tiny", 200, 4, img_size=16, embed_dim=48, depth=3, num_heads=4, mlp_ratio=2)
    # Heads of 12, and a residual stream with a variance near the norms' epsilon.
    case("frames3", 210, 3, stream_scale=1e-3, img_size=20, embed_dim=36, depth=3, num_heads=3, mlp_ratio=2)
    # 11x11 to 5x5 tokens: a ratio close to the published 37 to 16, so that the
    # antialiasing of the downsampling matters.
    case("resampled", 220, 2, run_size=20, img_size=44, embed_dim=40, depth=3, num_heads=2, mlp_ratio=2)
    # 4x4 to 7x7 tokens.
    case("resampled-up", 230, 2, run_size=28, img_size=16, embed_dim=32, depth=3, num_heads=2, mlp_ratio=2)
    variants_case("variants", 240, 5, 16, img_size=28, embed_dim=36, depth=3, num_heads=3, mlp_ratio=2)
    variants_case(
        "variants-small-activations", 250, 2, 16, stream_scale=1e-3,
        img_size=20, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2,
    )
    other_grid_case("stored-grid", 260, 2, 8, 20, embed_dim=24, depth=2, num_heads=2, mlp_ratio=1)
    placed_class_case(
        "placed-class", 270, 2, 8,
        img_size=[12, 12], patch_size=4, embed_dim=24, depth=2, num_heads=2, mlp_ratio=1, reg_tokens=1,
        no_embed_class=False, init_values=None, act_layer="silu", class_token=True, dynamic_img_size=True,
        global_pool="token", num_classes=0, drop_path_rate=0.1, proj_bias=False, norm_layer="layernorm",
    )


if __name__ == "__main__":
    main()
