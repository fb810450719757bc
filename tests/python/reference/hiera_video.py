"""The PyPI package `hiera-transformer`: Hiera for video."""

import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports timm's layers from their former module
    import hiera
    from hiera.hiera_mae import MaskedAutoencoderHiera

# Parameters that write to the residual stream.
STREAM = r"(pos_embed(_spatial|_temporal)?|patch_embed\.proj\.(weight|bias)|blocks\.\d+\.(attn\.proj|mlp\.fc2|proj)\.(weight|bias))$"


def config(**sizes):
    """config.json as in the published repositories: the arguments of the constructor."""
    video = {
        "q_stride": [1, 2, 2], "mask_unit_size": [1, 8, 8], "patch_kernel": [3, 7, 7],
        "patch_stride": [2, 4, 4], "patch_padding": [1, 3, 3], "sep_pos_embed": True, "num_classes": 5,
    }
    cfg = dict(hiera.Hiera(**tuples({**video, **sizes})).config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in cfg.items()}


def tuples(cfg):
    return {key: tuple(value) if isinstance(value, list) else value for key, value in cfg.items()}


def build(cfg):
    return hiera.Hiera(**tuples(cfg)).eval()


def build_autoencoder(cfg):
    """The contents of `mae_k400` files, with a small decoder."""
    dropped = ("num_classes", "head_dropout", "head_init_scale", "drop_path_rate", "norm_layer")
    args = {key: value for key, value in tuples(cfg).items() if key not in dropped}
    return MaskedAutoencoderHiera(decoder_embed_dim=8, decoder_depth=1, decoder_num_heads=2, **args).eval()


def features(model, clips):
    """[B, F, 3, H, W] to [B, T*S, D]: the last stage's map, for every group of frames that fits the model."""
    batch = clips.shape[0]
    groups = clips.reshape(-1, model.config["input_size"][0], *clips.shape[2:])
    _, stages = model(groups.transpose(1, 2).contiguous(), return_intermediates=True)
    return stages[-1].reshape(batch, -1, stages[-1].shape[-1])


def encoder_of(cfg, autoencoder):
    """The encoder alone, with the autoencoder's weights."""
    model = build(cfg)
    missing, _ = model.load_state_dict(autoencoder.state_dict(), strict=False)
    assert set(missing) == {"norm.weight", "norm.bias", "head.projection.weight", "head.projection.bias"}
    return model


def nested(state):
    """The dictionary of the `.pth` files, with names joined by dots."""
    return {f"model_state.{name}": torch.as_tensor(tensor) for name, tensor in state.items()}
