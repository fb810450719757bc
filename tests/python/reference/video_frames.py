"""The sampled frames, with their RGB bytes from three decoders."""

import av
import cv2
import decord
import numpy as np


def sample(n, fps, num_frames, start=None, end=None, end_frame=None):
    """Frame indices of MERV's `load_video`: numpy's linspace, cut to integers.

    n: frame count. fps: average rate. start, end: seconds, None or NaN for the
    default. end_frame: replaces the time window when it is not negative.
    """
    if end_frame is not None and end_frame >= 0:
        return np.linspace(0, min(n - 1, end_frame), num_frames, dtype=int)
    seconds = n / fps
    start = 0.0 if start is None or np.isnan(start) else start
    end = seconds if end is None or np.isnan(end) else end
    return np.linspace(start * fps, min(n - 1, end * fps - 1), num_frames, dtype=int)


def decode_all(path):
    """All frames through PyAV: uint8 [n, H, W, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def decode_agreed(path, num_frames):
    """The sampled frames. Asserts that decord, PyAV and OpenCV return the same bytes.

    Returns the indices and uint8 [num_frames, H, W, 3].
    """
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    indices = sample(len(reader), reader.get_avg_fps(), num_frames)
    from_decord = reader.get_batch(indices).asnumpy()

    from_av = decode_all(path)
    assert len(from_av) == len(reader)
    assert np.array_equal(from_av[indices], from_decord), "PyAV and decord differ"

    capture, from_cv = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        from_cv.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    assert len(from_cv) == len(reader)
    assert np.array_equal(np.stack(from_cv)[indices], from_decord), "OpenCV and decord differ"
    return indices, from_decord
