"""tests/fixtures/hiera: Hiera for video at toy sizes."""

from reference import hiera_video
from reference.fixture_files import randn, setup, write_case
from reference.lively_weights import fill


def case(name, seed, frames, stream_scale=1.0, autoencoder=False, **sizes):
    cfg = hiera_video.config(**sizes)
    if autoencoder:
        whole = fill(hiera_video.build_autoencoder(cfg), seed, hiera_video.STREAM, stream_scale)
        model, state = hiera_video.encoder_of(cfg, whole), hiera_video.nested(whole.state_dict())
    else:
        model = fill(hiera_video.build(cfg), seed, hiera_video.STREAM, stream_scale)
        state = model.state_dict()
    size = cfg["input_size"][1]
    clips = randn(seed + 1, 2, frames, 3, size, size)
    write_case(f"hiera/{name}", cfg, state, {"clips": clips, "features": hiera_video.features(model, clips)})


def main():
    setup()
    # Like the published models, but small: mask units in the first two stages, three poolings, 2x2x2 tokens at the end.
    case(
        "finetuned", 900, 4,
        input_size=[4, 64, 64], embed_dim=6, num_heads=1, stages=[2, 2, 2, 1],
        mask_unit_attn=[True, True, False, False], q_pool=3,
    )
    # Two clips in a row, two heads at first, a residual stream with a variance near the norms' epsilon.
    case(
        "two-clips-small-activations", 910, 4, stream_scale=1e-3,
        input_size=[2, 64, 64], embed_dim=8, num_heads=2, stages=[1, 2, 1, 1],
        mask_unit_attn=[True, True, False, False], q_pool=3,
    )
    # Not finetuned: the file also contains the decoder, in a separate dictionary.
    case(
        "autoencoder", 920, 2, autoencoder=True,
        input_size=[2, 64, 64], embed_dim=4, num_heads=1, stages=[1, 1, 2, 1],
        mask_unit_attn=[True, True, False, False], q_pool=3,
    )
    # One pooling fewer than the stages allow, which leaves the last map in mask units; pooling over time as well;
    # one position embedding per token; a perceptron of another width.
    case(
        "two-poolings", 930, 8,
        input_size=[8, 32, 32], embed_dim=6, num_heads=1, stages=[1, 2, 1, 1], q_stride=[2, 2, 2],
        mask_unit_size=[8, 8, 8], patch_kernel=[1, 3, 3], patch_stride=[1, 2, 2], patch_padding=[0, 1, 1],
        mask_unit_attn=[True, False, True, False], q_pool=2, sep_pos_embed=False, mlp_ratio=2.0,
    )


if __name__ == "__main__":
    main()
