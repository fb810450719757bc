"""tests/fixtures/transforms: small frames, and the output of each encoder's transform."""

import numpy as np
import torch
from PIL import Image

from reference import clip_transforms
from reference.fixture_files import ASSETS, FIXTURES, setup, write_tensors
from reference.video_frames import decode_all

SIZE = 56
# name -> height, width, and the box (left, top, width, height) in the film
FRAMES = {
    "97x61": (97, 61, (500, 120, 305, 485)),
    "61x97": (61, 97, (300, 60, 582, 366)),
    "20x15": (20, 15, (700, 200, 300, 400)),
    "64x64": (64, 64, (620, 180, 256, 256)),
    "1x7": (1, 7, (600, 300, 350, 50)),
    "200x113": (200, 113, (560, 20, 339, 600)),
}
STRATEGIES = ("resize-naive", "resize-crop", "letterbox")
# siglip on every shape (a square one needs only one strategy); the others where they differ: fill and mean, filter and crop.
OUTPUTS = (
    [(name, "siglip", strategy) for name in FRAMES for strategy in STRATEGIES if name != "64x64"]
    + [("64x64", "siglip", "resize-naive")]
    + [("97x61", "dinov2", strategy) for strategy in STRATEGIES]
    + [(name, "vivit", strategy) for name in ("97x61", "20x15") for strategy in STRATEGIES]
    + [(name, "languagebind", "resize-naive") for name in FRAMES]
)
# Heights and widths, both larger and smaller.
RAW_SIZES = {
    "97x61": ((56, 56), (33, 90), (97, 30)),
    "61x97": ((20, 31), (61, 97), (130, 7)),
    "20x15": ((56, 56), (7, 5)),
    "1x7": ((5, 5), (1, 1), (3, 21)),
    "200x113": ((56, 56), (9, 11), (31, 17)),
}
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def frames():
    """Crops of one frame of the film, scaled down, with noise over the whole range of bytes."""
    film = Image.fromarray(decode_all(ASSETS / "bigbuckbunny.mp4")[60])
    random = np.random.default_rng(7)
    cuts = {}
    for name, (height, width, (left, top, w, h)) in FRAMES.items():
        cut = film.resize((width, height), Image.Resampling.BOX, box=(left, top, left + w, top + h))
        cut = np.asarray(cut).astype(np.int32) + random.integers(-40, 41, (height, width, 3))
        cuts[name] = cut.clip(0, 255).astype(np.uint8)
    return cuts


def main():
    setup()
    cuts = frames()
    outputs = {}
    for name, spec, strategy in OUTPUTS:
        outputs[f"{name}|{spec}|{strategy}"] = clip_transforms.clip(cuts[name][None], spec, SIZE, strategy)[0]
    for name, sizes in RAW_SIZES.items():
        for height, width in sizes:
            for filter_name, resample in FILTERS.items():
                resized = Image.fromarray(cuts[name]).resize((width, height), resample)
                outputs[f"u8|{name}|{filter_name}|{height}x{width}"] = torch.from_numpy(np.array(resized))
    folder = FIXTURES / "transforms"
    write_tensors(folder / "frames.safetensors", {name: torch.from_numpy(cut) for name, cut in cuts.items()})
    write_tensors(folder / "outputs.safetensors", outputs)
    print(f"transforms: {len(cuts)} frames, {len(outputs)} outputs")


if __name__ == "__main__":
    main()
