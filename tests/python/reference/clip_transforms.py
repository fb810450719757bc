"""uint8 RGB frames to clips: torchvision on Pillow images, torch for LanguageBind."""

import math

import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Pad, Resize, ToTensor

HALF = (0.5, 0.5, 0.5)
BICUBIC, BILINEAR = InterpolationMode.BICUBIC, InterpolationMode.BILINEAR
# interpolation, mean, std, and the short side of `resize-crop` as a ratio of the size
SPECS = {
    "siglip": (BICUBIC, HALF, HALF, 1.0),
    "dinov2": (BICUBIC, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1.0),
    "vivit": (BILINEAR, HALF, HALF, 256 / 224),
}
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def pillow(frame, spec, strategy, size):
    """uint8 [H, W, 3] to float [3, size, size]."""
    interpolation, mean, std, ratio = SPECS[spec]
    image = Image.fromarray(frame)
    steps = [CenterCrop(size), ToTensor(), Normalize(mean, std)]
    if strategy == "resize-naive":
        steps.insert(0, Resize((size, size), interpolation))
    else:
        steps.insert(0, Resize(round(size * ratio), interpolation))
    if strategy == "letterbox":
        width, height = image.size
        longest = max(width, height)
        padding = ((longest - width) // 2, (longest - height) // 2)
        steps.insert(0, Pad(padding, fill=tuple(int(channel * 255) for channel in mean)))
    return Compose(steps)(image)


def languagebind(frame, size):
    """uint8 [H, W, 3] to float [3, size, size]: normalise, short side, centre crop; no flip."""
    image = torch.from_numpy(frame.copy()).permute(2, 0, 1) / 255.0
    image = (image - CLIP_MEAN) / CLIP_STD
    height, width = image.shape[1:]
    if width < height:
        target = (math.floor(height / width * size), size)
    else:
        target = (size, math.floor(width / height * size))
    image = interpolate(image[None], size=target, mode="bilinear", align_corners=False)[0]
    top = int(round((target[0] - size) / 2.0))
    left = int(round((target[1] - size) / 2.0))
    return image[:, top : top + size, left : left + size].clone()


def clip(frames, spec, size, strategy="resize-naive"):
    """uint8 [F, H, W, 3] to float [F, 3, size, size]."""
    if spec == "languagebind":
        return torch.stack([languagebind(frame, size) for frame in frames])
    return torch.stack([pillow(frame, spec, strategy, size) for frame in frames])
