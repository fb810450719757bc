"""Images and animations, and how Pillow decodes them: fixtures of host/src/video/tests/stills.rs.

    python tests/python/make_still_fixtures.py    # with Pillow 13

JPEG and lossy WebP are stored with their pixels, all others with digests.
"""

import hashlib
import io
import json
import pathlib

import numpy as np
from PIL import Image, ImageOps, ImageSequence

OUT = pathlib.Path(__file__).parent.parent / "fixtures" / "stills"
OUT.mkdir(exist_ok=True)


def digest(image):
    rgb = image.convert("RGB")
    return [*rgb.size, hashlib.sha256(rgb.tobytes()).hexdigest()]


def picture(width, height, seed=0):
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 19 + seed * 31, y * 27, (x + y) * 11 + seed * 7], -1)
    return Image.fromarray((rgb % 256).astype(np.uint8))


expected = {"orientations": {}, "animations": {}, "stills": {}}

# One file per format. The tests write the other orientations into it.
upright = picture(12, 8).resize((24, 16), Image.Resampling.BILINEAR)
exif = Image.Exif()
exif[0x0112] = 1
for name, options in {
    "oriented.jpg": {"quality": 95, "subsampling": 0},
    "oriented.png": {},
    "oriented.webp": {"lossless": True},
    "oriented.tif": {"compression": "tiff_lzw"},
}.items():
    upright.save(OUT / name, exif=exif, **options)
for number in range(1, 9):
    exif[0x0112] = number
    file = io.BytesIO()
    upright.save(file, "PNG", exif=exif)
    turned = ImageOps.exif_transpose(Image.open(file))
    expected["orientations"][number] = {"size": turned.size, "rgb": turned.tobytes().hex()}

# Frames of different sizes, transparent and half transparent, kept and removed.
patches = []
for index in range(7):
    frame = picture(40, 30, index).convert("RGBA")
    alpha = np.zeros((30, 40), np.uint8)
    alpha[index * 3 : index * 3 + 9, index * 4 : index * 4 + 13] = [255, 128, 255, 77, 200, 255, 9][index]
    frame.putalpha(Image.fromarray(alpha))
    patches.append(frame if index else picture(40, 30).convert("RGBA"))
patches[0].save(
    OUT / "blend.apng", "PNG", save_all=True, append_images=patches[1:], duration=[100, 200, 100, 50, 100, 100, 300],
    disposal=[0, 0, 1, 0, 2, 0, 0], blend=[0, 1, 1, 1, 1, 0, 1],
)
opaque = [picture(40, 30, index) for index in range(5)]
opaque[0].save(OUT / "plain.png", save_all=True, append_images=opaque[1:], duration=100)
patches[0].save(
    OUT / "blend.webp", save_all=True, append_images=patches[1:], duration=[100, 200, 100, 50, 100, 100, 300],
    lossless=True, exact=True, minimize_size=True,
)
opaque[0].save(OUT / "lossless.webp", save_all=True, append_images=opaque[1:], duration=100, lossless=True)
smooth = [image.resize((40, 30), Image.Resampling.BILINEAR) for image in (picture(5, 4, i) for i in range(5))]
smooth[0].save(OUT / "lossy.webp", save_all=True, append_images=smooth[1:], duration=100, quality=60)


def chunk(kind, data):
    return kind + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


# Patches that are blended with what the one before them cleared: all of the canvas, or a part of it. Their
# transparent pixels have colours, which libwebp shows where it does not blend.
REPLACE, CLEAR = 2, 1
size = bytes([7, 0, 0, 5, 0, 0])
parts = [chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + size), chunk(b"ANIM", bytes(6))]
for index, (x, y, width, height, flags) in enumerate(
    [
        (0, 0, 8, 6, CLEAR),
        (2, 2, 4, 2, CLEAR),
        (0, 0, 6, 4, 0),
        (2, 2, 6, 4, CLEAR),
        (0, 0, 8, 6, 0),
        (4, 0, 2, 6, REPLACE | CLEAR),
        (0, 2, 8, 2, 0),
    ]
):
    frame = picture(width, height, index + 1).convert("RGBA")
    frame.putalpha(Image.fromarray(np.resize(np.array([0, 255, 90], np.uint8), (height, width))))
    still = io.BytesIO()
    frame.save(still, "WEBP", lossless=True, exact=True)
    part = still.getvalue()
    part = part[part.index(b"VP8L") :]
    head = b"".join(number.to_bytes(3, "little") for number in [x // 2, y // 2, width - 1, height - 1, 100])
    parts.append(chunk(b"ANMF", head + bytes([flags]) + part))
(OUT / "cleared.webp").write_bytes(chunk(b"RIFF", b"WEBP" + b"".join(parts)))
for name in ["blend.apng", "plain.png", "blend.webp", "lossless.webp", "lossy.webp", "cleared.webp"]:
    frames = [digest(frame) for frame in ImageSequence.Iterator(Image.open(OUT / name))]
    expected["animations"][name] = frames

deep = (np.mgrid[0:9, 0:11].sum(0)[..., None] * [3001, 2003, 1009]).astype(">u2")
(OUT / "rgb16.png").write_bytes(b"")


def png16(samples, colour):
    import struct
    import zlib

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


(OUT / "rgb16.png").write_bytes(png16(deep, 2))
upright.convert("RGBA").save(OUT / "deflate.tif", compression="tiff_adobe_deflate")
upright.convert("L").save(OUT / "grey.tif")
upright.save(OUT / "still.webp", quality=70)
for name in ["rgb16.png", "deflate.tif", "grey.tif", "still.webp"]:
    expected["stills"][name] = digest(Image.open(OUT / name))
(OUT / "expected.json").write_text(json.dumps(expected, indent=1))

# The alpha stream has more bits than the image, so FFmpeg selects it as the best stream.
noise = np.random.default_rng(1)
frames = []
for _ in range(3):
    alpha = noise.integers(0, 256, (24, 32), np.uint8)
    frames.append(Image.fromarray(np.dstack([np.full((24, 32), 220, np.uint8), np.full((24, 32, 2), 20, np.uint8), alpha])))
frames[0].save(OUT / "alpha.avif", save_all=True, append_images=frames[1:], duration=100, quality=40, speed=8)
