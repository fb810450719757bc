"""tests/fixtures/video/streams: recordings that were cut, joined or given wrong timestamps, and the frames that the
`ffmpeg` command decodes from them, in its order. Needs only that command (version 5.1 made the fixtures).
"""

import json
import shutil
import subprocess
from pathlib import Path

# The key of fill items in an MXF. The length follows.
FILLER = bytes.fromhex("060e2b34010101020301021001000000")
FOLDER = Path(__file__).parents[1] / "fixtures/video/streams"
SCENES = {
    "one": "testsrc2=size=96x54:rate=25:duration=1.6",
    "two": "mandelbrot=size=96x54:rate=25,trim=duration=0.8,hue=s=0",
}
X264 = "-c:v libx264 -crf 36 -threads 1 -g 12 -bf 2"
VP8 = "-c:v libvpx -crf 40 -b:v 200k -g 8 -auto-alt-ref 1 -lag-in-frames 8 -frames:v 30 -threads 1"
VP9 = "-c:v libvpx-vp9 -crf 60 -b:v 0 -g 8 -lag-in-frames 0 -frames:v 24 -threads 1"
MPEG4 = "-c:v mpeg4 -q:v 14 -g 12 -bf 2"
MPEG2 = "-c:v mpeg2video -q:v 14 -g 8 -bf 2 -frames:v 30"
QTRLE = "-vf scale=48:28 -c:v qtrle -g 6 -frames:v 20 -pix_fmt rgb24"
OPEN_GOP = "-bf 3 -b_strategy 0 -sc_threshold 0 -g 8 -x264-params open-gop=1:direct=temporal"


def run(arguments, target):
    command = ["ffmpeg", "-v", "error", "-y", *arguments, "-fflags", "+bitexact", "-map_metadata", "-1"]
    subprocess.run([*command, str(target)], check=True)
    return target


def encode(scene, options, target):
    return run(["-f", "lavfi", "-i", SCENES[scene], "-pix_fmt", "yuv420p", *options.split()], target)


def copy(source, options, target):
    return run(["-i", str(source), "-c", "copy", *options.split()], target)


def noise(data, start):
    """Overwrites 60 bytes."""
    for n in range(60):
        data[start + n] ^= n * 167 % 255 + 1


def make(work):
    ts = encode("one", X264, work / "one.ts").read_bytes()
    other = encode("two", X264, work / "two.ts").read_bytes()
    (FOLDER / "head_cut.ts").write_bytes(ts[188 * 8 + 100 :])
    (FOLDER / "tail_cut.ts").write_bytes(ts[:-150])
    # Ends in the middle of a key frame.
    key_last = encode("one", X264 + " -frames:v 37", work / "key_last.ts").read_bytes()
    (FOLDER / "cut_in_a_picture.ts").write_bytes(key_last[:-300])
    (FOLDER / "joined.ts").write_bytes(ts[: len(ts) // 2] + other)
    avi = encode("one", MPEG4, work / "one.avi")
    run(["-i", str(avi), "-c", "copy"], FOLDER / "from_avi.mp4")
    copy(avi, "-bsf:v noise=drop=lt(n\\,3)", FOLDER / "no_key_frame.avi")
    mkv = encode("one", X264, work / "one.mkv")
    copy(mkv, "-bsf:v noise=drop=lt(n\\,3)", FOLDER / "no_key_frame.mkv")
    copy(mkv, "-bsf:v setts=ts=if(gt(N\\,15)\\,TS-0.4/TB\\,TS)", FOLDER / "stuck_time.mkv")
    copy(mkv, "-bsf:v setts=pts=PTS-mod(N\\,2)*DURATION", FOLDER / "repeated_times.mkv")
    copy(mkv, "-bsf:v setts=pts=-PTS", FOLDER / "reversed_times.flv")
    flv = encode("one", "-c:v flv -q:v 20 -g 12 -frames:v 20", work / "one.flv")
    copy(flv, "-bsf:v noise=drop=lt(n\\,3)", FOLDER / "no_key_frame.flv")
    vp8 = encode("one", VP8, work / "one.ivf")
    copy(vp8, "-bsf:v noise=drop=eq(mod(n\\,7)\\,5)", FOLDER / "missing_packets.ivf")
    # Cut in a frame, which also removes the index at the end. Without it, all packets count as key frames.
    video1 = encode("one", "-vf scale=48:28 -c:v msvideo1 -g 12 -pix_fmt rgb555le", work / "video1.avi").read_bytes()
    (FOLDER / "no_index.avi").write_bytes(video1[: len(video1) * 8 // 10 - 30])
    # Two B-frames lost the P-frame that follows them. The decoder returns them before the preceding key frame.
    ts = encode("one", MPEG2, work / "mpeg2.ts")
    copy(ts, "-bsf:v noise=drop=between(n\\,20\\,22)", FOLDER / "lost_reference.ts")
    # The last lost packets are references of the leading frames of a key frame.
    ts = encode("one", X264.replace("-g 12 -bf 2", OPEN_GOP), work / "open.ts")
    copy(ts, "-bsf:v noise=drop=between(n\\,9\\,12)", FOLDER / "lost_in_open_gop.ts")
    # These two decoders do not report damage. One fills the rest of the frame with old memory, the other
    # with the previous frame.
    nut = encode("one", "-vf scale=48:28 -c:v ffv1 -g 4 -frames:v 13", work / "ffv1.nut").read_bytes()
    (FOLDER / "cut_ffv1.nut").write_bytes(nut[: len(nut) * 12 // 13])
    mov = bytearray(encode("one", QTRLE, work / "qtrle.mov").read_bytes())
    noise(mov, len(mov) * 3 // 10)
    (FOLDER / "damaged_key_frame.mov").write_bytes(mov)
    # A file of `make test-media`: an MPEG-4 with a few random bytes.
    shutil.copy("target/test-media/mpeg4.garbage.mkv", FOLDER / "damaged_for_b_frames.mkv")
    # After this key frame of 65536 × 65536 pixels, the decoder fails for all later packets.
    ivf = bytearray(encode("one", VP9, work / "vp9.ivf").read_bytes())
    start = 32
    for _ in range(14):
        start += 12 + int.from_bytes(ivf[start : start + 4], "little")
    ivf[start + 12 : start + 21] = bytes.fromhex("82498342 2fffffffff")
    (FOLDER / "false_size.ivf").write_bytes(ivf)
    # An MXF that can be read sequentially, but not with its index.
    mxf = bytearray(encode("one", MPEG2, work / "mpeg2.mxf").read_bytes())
    # A length of 72 bytes.
    mxf[mxf.index(FILLER, len(mxf) * 2 // 3) + len(FILLER)] = 0xC8
    (FOLDER / "damaged_filler.mxf").write_bytes(mxf)
    one = encode("one", X264 + " -frames:v 6", work / "one.mp4")
    for turn in range(8):
        # The signs mirror horizontally and vertically; the last four also swap the axes.
        a, d = 1 - 2 * (turn & 1), 1 - (turn & 2)
        entries = [a, 0, 0, d] if turn < 4 else [0, a, d, 0]
        data = bytearray(one.read_bytes())
        matrix = data.index(b"tkhd") + 44
        for index, entry in zip((0, 1, 3, 4), entries):
            data[matrix + 4 * index : matrix + 4 * index + 4] = (entry << 16).to_bytes(4, "big", signed=True)
        (FOLDER / f"turned{turn}.mp4").write_bytes(data)
    copy(one, "-bsf:v h264_metadata=display_orientation=insert:rotate=90:flip=horizontal", FOLDER / "turned_by_the_stream.mp4")
    key, kid = "76a6c65c5ea762046bd749a2e632ccbb", "a7e61c373e219033c21091fa607bf3b8"
    copy(one, f"-encryption_scheme cenc-aes-ctr -encryption_key {key} -encryption_kid {kid}", FOLDER / "encrypted.mp4")


def frames(path):
    """The SHA-256 of each frame's RGB bytes. (Bilinear, as in decord, which matters only for odd widths.)"""
    command = ["ffmpeg", "-v", "quiet", "-threads", "1", "-i", str(path), "-fps_mode", "passthrough", "-autoscale", "0"]
    command += ["-sws_flags", "bilinear", "-pix_fmt", "rgb24", "-f", "framehash", "-hash", "sha256", "-"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    return [line.rsplit(",", 1)[1].strip() for line in lines if not line.startswith("#")]


def seconds(path):
    """The presentation time of each frame, relative to the first."""
    command = ["ffprobe", "-v", "error", "-show_entries", "frame=pts_time", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["frames"]
    times = [float(frame["pts_time"]) for frame in found]
    return [round(time - times[0], 6) for time in times]


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    work = Path("/tmp/stream_fixtures")
    work.mkdir(exist_ok=True)
    make(work)
    clips = {path.name: frames(path) for path in sorted(FOLDER.iterdir()) if path.suffix != ".json"}
    # ffmpeg decodes the second differently with each number of threads.
    del clips["encrypted.mp4"], clips["missing_packets.ivf"]
    # The number of frames of this file is known only after the last is decoded.
    del clips["cut_ffv1.nut"]
    # ffmpeg returns no frames after the damage.
    del clips["false_size.ivf"]
    # The last frame is cut, and its missing part is guessed.
    del clips["no_index.avi"][-1], clips["cut_in_a_picture.ts"][-1]
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(seen)}" for name, seen in clips.items())
    (FOLDER / "expected.json").write_text("{\n" + lines + "\n}\n")
    times = {name: seconds(FOLDER.parent / name) for name in ["vfr.mp4"]}
    (FOLDER / "seconds.json").write_text(json.dumps(times) + "\n")
    for name, seen in clips.items():
        print(f"{name}: {len(seen)} frames, {(FOLDER / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
