"""How the frames that PyAV and OpenCV give differ from those of the `ffmpeg` command, over the files that
`make test-media` has left in target/test-media: counts by what happened to the file.

    python tests/python/compare_media.py target/test-media/*

Needs `av` and `opencv-python-headless`. They bring an FFmpeg of their own, so frames are compared as the decoder
gives them, before any conversion of colours; OpenCV's, which are converted, are compared with PyAV's after the
same conversion.
"""

import collections
import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

os.environ["OPENCV_LOG_LEVEL"] = "OFF"
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"

import av
import cv2
import numpy as np

av.logging.set_level(None)

FFMPEG = "ffmpeg -v quiet -nostdin -threads 1 -i".split()
FRAMES = "-map 0:v:0 -fps_mode passthrough -autoscale 0 -f framehash -hash md5 -".split()


def by_ffmpeg(path):
    lines = subprocess.run([*FFMPEG, path, *FRAMES], capture_output=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


def packed(frame):
    """The MD5 of a frame's planes without the padding of their rows."""
    md5 = hashlib.md5()
    for number, plane in enumerate(frame.planes):
        pixel = max(1, frame.format.padded_bits_per_pixel // 8) if len(frame.planes) == 1 else 1
        if len(frame.planes) > 1 and frame.format.components[number].bits > 8:
            pixel = 2
        rows = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height]
        rows = rows.reshape(plane.height, plane.line_size)
        md5.update(rows[:, : plane.width * pixel].tobytes())
    if frame.format.name == "pal8":
        return None
    return md5.hexdigest()


def converted(frame):
    try:
        return hashlib.md5(frame.to_ndarray(format="bgr24", interpolation="BICUBIC").tobytes()).hexdigest()
    except Exception:
        return None


def by_pyav(path):
    """Digests of all frames, whether the decoding loop stops with an error, and the frames as OpenCV has them."""
    frames, stops = [], False
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                try:
                    frames += [(packed(frame), converted(frame)) for frame in packet.decode()]
                except av.FFmpegError:
                    stops = True
    except (av.FFmpegError, IndexError):
        stops = True
    return [frame for frame, _ in frames], stops, [bgr for _, bgr in frames]


def by_opencv(path):
    capture, frames = cv2.VideoCapture(path), []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(hashlib.md5(frame.tobytes()).hexdigest())


def difference(found, expected):
    if not found and not expected:
        return "neither reads it"
    if not found:
        return "no frame"
    if len(found) != len(expected):
        return "fewer frames" if len(found) < len(expected) else "more frames"
    same = all(a == b or a is None or b is None for a, b in zip(found, expected))
    return "the same" if same else "other pixels"


def look(path):
    path = str(path)
    ffmpeg = by_ffmpeg(path)
    pyav, stops, bgr = by_pyav(path)
    opencv = by_opencv(path)
    about_pyav = difference(pyav, ffmpeg)
    if stops and pyav:
        about_pyav += ", with an error"
    about_opencv = difference(opencv, bgr) if about_pyav.startswith("the same") else difference(opencv, ffmpeg)
    if about_opencv == "other pixels" and not about_pyav.startswith("the same"):
        about_opencv = "as many frames"
    return about_pyav, about_opencv


def main():
    files = [path for path in map(Path, sys.argv[1:]) if path.suffix != ".txt"]
    counts = {"PyAV": collections.Counter(), "OpenCV": collections.Counter()}
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for path, (pyav, opencv) in zip(files, pool.map(look, files, chunksize=8)):
            change = re.sub(r"\d+$", "", path.name.split(".")[1])
            counts["PyAV"][change, pyav] += 1
            counts["OpenCV"][change, opencv] += 1
            if not (pyav.startswith(("the same", "neither")) and opencv.startswith(("the same", "neither"))):
                print(path.name, pyav, opencv, sep="\t")
    for name, found in counts.items():
        print(f"\n{name}: {sum(found.values())} files")
        total = collections.Counter()
        for (_, how), files in found.items():
            total[how] += files
        for how, files in total.most_common():
            kinds = [f"{change} {n}" for (change, h), n in sorted(found.items()) if h == how]
            print(f"{files:6} {how}: {', '.join(kinds)}")


if __name__ == "__main__":
    main()
