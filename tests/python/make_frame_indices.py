"""tests/fixtures/frame_indices.json: the frames that numpy's linspace selects."""

import json
import math

from reference.fixture_files import FIXTURES
from reference.video_frames import sample

NTSC = 30000 / 1001
# n, fps, num_frames, and optionally start, end, end_frame
CASES = [
    {"n": n, "fps": fps, "num_frames": num_frames}
    for n, fps, num_frames in [
        (132, 25.0, 16), (132, 25.0, 32), (300, 30.0, 16), (61, 29.97, 16), (61, 29.97, 32), (61, 29.97, 8),
        (61, NTSC, 32), (1, 30.0, 16), (1, NTSC, 1), (2, 25.0, 16), (7, 24.0, 32), (31, 24.0, 32), (32, 24.0, 32),
        (33, 24.0, 32), (16, 15.0, 16), (100, NTSC, 16), (1799, NTSC, 32), (1798, 60000 / 1001, 16),
        (100000, NTSC, 32), (5394, 24000 / 1001, 32), (250, 23.976, 16), (97, 14.985, 32), (49, 29.97, 16),
        (103, 29.97, 16), (107, 29.97, 16), (77, 12.5, 1), (77, 12.5, 2), (77, 12.5, 3), (90, 3.0, 32),
        (29, 29.97, 16), (58, 29.97, 32), (1001, 59.94, 64),
    ]
] + [
    {"n": n, "fps": fps, "num_frames": num_frames, "start": start, "end": end}
    for n, fps, num_frames, start, end in [
        (300, 30.0, 16, 2.0, 5.0), (300, 30.0, 32, 0.0, 10.0), (300, 30.0, 16, 0.0, 12.5), (300, 30.0, 16, 9.5, 40.0),
        (300, 30.0, 16, 3.3, None), (300, 30.0, 32, None, 3.3), (300, NTSC, 16, 1.1, 2.2), (300, NTSC, 32, 0.7, 0.9),
        (300, 29.97, 16, 4.0, 4.0), (300, 25.0, 8, 6.2, 6.24), (1799, NTSC, 32, 12.34, 43.21),
        (1799, 23.976, 16, 60.06, 75.0), (90, 3.0, 16, 1.0, 9.5), (90, 3.0, 32, 0.5, None), (90, 3.0, 1, 7.0, 8.0),
        (2000, 25.0, 16, 33.333, 66.667), (132, 25.0, 16, math.nan, math.nan), (132, 25.0, 32, math.nan, 2.0),
        (132, 25.0, 16, 1.5, math.nan),
    ]
] + [
    {"n": n, "fps": fps, "num_frames": num_frames, "end_frame": end_frame}
    for n, fps, num_frames, end_frame in [
        (300, 30.0, 16, 100), (300, 30.0, 32, 299), (300, 30.0, 16, 300), (300, NTSC, 16, 5000), (300, 30.0, 16, 0),
        (300, 30.0, 16, 7), (61, 29.97, 16, -1), (61, 29.97, 16, 60), (1, 25.0, 16, 10), (450, 12.0, 1, 100),
    ]
]


def main():
    rows = []
    for case in CASES:
        case = {"start": None, "end": None, "end_frame": None, **case}
        indices = [int(index) for index in sample(**case)]
        # JSON does not allow NaN, so it is written as a string.
        for key in ("start", "end"):
            if case[key] is not None and math.isnan(case[key]):
                case[key] = "nan"
        rows.append({**case, "indices": indices})
    (short,) = [row for row in rows if (row["n"], row["fps"], row["num_frames"]) == (61, 29.97, 8)]
    assert short["indices"][-1] == 59, "61 frames at 29.97 should stop one frame early"
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    (FIXTURES / "frame_indices.json").write_text(f"[\n{lines}\n]\n")
    print(f"frame_indices.json: {len(rows)} cases")


if __name__ == "__main__":
    main()
