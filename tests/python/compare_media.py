"""Compares the frames of PyAV and OpenCV with those of merv-host, for the files that `make test-media` wrote into
target/test-media. Prints counts, as in the table of docs/video.md.

    python tests/python/compare_media.py [--every N] target/test-media/*

compares one file in N, selected by the names. Needs `av` and `opencv-python-headless`, and the programs that
`make test-media` built. PyAV and OpenCV include FFmpeg libraries of their own, so frames are compared as the decoder
returns them, before any colour conversion. The `ffmpeg` command connects the two: it shows which of these frames
merv-host decodes. OpenCV's frames are converted, and are identified by PyAV's after the same conversion. Files that
differ are listed first.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

os.environ["OPENCV_LOG_LEVEL"] = "OFF"
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"

import av
import cv2
import numpy as np

av.logging.set_level(None)

FFMPEG = "ffmpeg -v quiet -nostdin -threads 1 -i".split()
FRAMES = "-map 0:v:0 -fps_mode passthrough -autoscale 0".split()
AS_DECODED = "-f framehash -hash md5 -".split()
AS_SHOWN = "-sws_flags bilinear -pix_fmt rgb24 -f framehash -hash sha256 -".split()
HOST = ["target/release/test_media", "--frames"]


def by_ffmpeg(path, form):
    lines = subprocess.run([*FFMPEG, path, *FRAMES, *form], capture_output=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


def by_host(path, decoded, shown):
    """The frames that merv-host decodes, before colour conversion. None for a file that it refuses."""
    found = json.loads(subprocess.run([*HOST, path], capture_output=True, text=True, check=True).stdout)
    if found is None:
        return None
    frames, at = [], 0
    for digest in found:
        if digest is None:
            continue
        try:
            at = shown.index(digest, at)
        except ValueError:
            frames.append("shown by merv-host alone")
            continue
        frames.append(decoded[at])
        at += 1
    return frames


def packed(frame):
    """The MD5 of a frame's planes, without the padding of rows."""
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
    """The digests of all frames, whether decoding stopped with an error, and the frames as OpenCV converts them."""
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


def are_same(found, expected):
    return len(found) == len(expected) and all(a == b or a is None for a, b in zip(found, expected))


def are_among(found, expected):
    rest = iter(expected)
    return all(any(a == b or None in (a, b) for b in rest) for a in found)


def difference(found, host, ffmpeg):
    """A description of how the frames found differ from those of merv-host."""
    if host is None:
        return "a file that merv-host refuses" if found else "the same frames as merv-host"
    if are_same(found, host):
        return "the same frames as merv-host"
    if not found:
        return "nothing"
    if are_same(found, host[: len(found)]):
        return "all but the last frames"
    if are_among(host, found):
        return "guesses too, which merv-host refuses or leaves out"
    if are_among(found, ffmpeg):
        return "all but some other frames"
    return "other pixels"


def look(path):
    path = str(path)
    decoded, shown = by_ffmpeg(path, AS_DECODED), by_ffmpeg(path, AS_SHOWN)
    host = by_host(path, decoded, shown)
    pyav, stops, bgr = by_pyav(path)
    known = dict(zip(bgr, pyav))
    opencv = [known.get(frame, "unknown") for frame in by_opencv(path)]
    return difference(pyav, host, decoded), stops and bool(pyav), difference(opencv, host, decoded)


def chosen(arguments):
    every = 1
    if arguments[:1] == ["--every"]:
        every, arguments = int(arguments[1]), arguments[2:]
    files = [path for path in map(Path, arguments) if path.suffix != ".txt"]
    # Rotated files are not damaged, and decoders do not rotate.
    files = [path for path in files if ".turned" not in path.name]
    return [path for path in files if zlib.crc32(path.name.encode()) % every == 0]


def main():
    files = chosen(sys.argv[1:])
    counts = {"PyAV": collections.Counter(), "OpenCV": collections.Counter()}
    kinds = collections.defaultdict(collections.Counter)
    stopped = 0
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for path, (pyav, stops, opencv) in zip(files, pool.map(look, files, chunksize=4)):
            kind = re.sub(r"\d+$", "", path.name.split(".")[1])
            stopped += stops
            for name, how in [("PyAV", pyav), ("OpenCV", opencv)]:
                counts[name][how] += 1
                kinds[name, how][kind] += 1
            if (pyav, opencv) != ("the same frames as merv-host", "the same frames as merv-host"):
                print(path.name, pyav, opencv, sep="\t", flush=True)
    print(f"\n{len(files)} files; PyAV's decoder raises an error, but shows frames, in {stopped}")
    print("| what is shown | PyAV | OpenCV |\n|---|---|---|")
    hows = sorted({*counts["PyAV"], *counts["OpenCV"]}, key=lambda how: -counts["PyAV"][how] - counts["OpenCV"][how])
    for how in hows:
        print(f"| {how} | {counts['PyAV'][how]} | {counts['OpenCV'][how]} |")
    for (name, how), found in sorted(kinds.items()):
        print(f"{name}, {how}: " + ", ".join(f"{kind} {n}" for kind, n in found.most_common()))


if __name__ == "__main__":
    main()
