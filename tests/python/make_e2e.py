"""tests/fixtures/e2e: the whole pipeline in PyTorch, from assets/bigbuckbunny.mp4 to text.

Large tensors are stored as strided subsamples. `STRIDES` is also in expected.json.
"""

import hashlib

import torch

from reference.fixture_files import ASSETS, FIXTURES, setup, write_json, write_tensors
from reference.pipeline import NUM_FRAMES, Pipeline, pure_prompt
from reference.video_frames import decode_agreed

PROMPT = "Describe what is happening in this video."
STEPS = 32
# clip_sample: over the flattened clip. features, projected: over the tokens.
# No stride divides a row or a grid, so every position is sampled.
STRIDES = {"clip_sample": 97, "features": 15, "projected": 5}


def main():
    setup()
    indices, frames = decode_agreed(ASSETS / "bigbuckbunny.mp4", max(NUM_FRAMES.values()))
    result = Pipeline(FIXTURES / "lively").run(frames, PROMPT, STEPS)

    io = {"frame_indices": torch.tensor(indices)}
    for name, clip in result["clips"].items():
        io[f"clip_sample.{name}"] = clip.flatten()[:: STRIDES["clip_sample"]]
    for stage in ("features", "projected"):
        for name, tokens in result[stage].items():
            io[f"{stage}.{name}"] = tokens[:, :: STRIDES[stage]]
    for name in ("fused", "mixer_weights", "prompt_ids", "tokens"):
        io[name] = result[name]
    io["logits"] = result["logits"][0]

    folder = FIXTURES / "e2e"
    write_tensors(folder / "io.safetensors", io)
    expected = {
        "message": PROMPT,
        "prompt": pure_prompt(PROMPT),
        "tokens": result["tokens"].tolist(),
        "text": result["text"],
        "mixer_weights": dict(zip(result["clips"], result["mixer_weights"][0].tolist())),
        "strides": STRIDES,
        "clip_shapes": {name: list(clip.shape) for name, clip in result["clips"].items()},
        "frame_indices": indices.tolist(),
        "frame_sha256": [hashlib.sha256(frame.tobytes()).hexdigest() for frame in frames],
    }
    write_json(folder / "expected.json", expected)
    print(f"e2e: {result['text']!r}")


if __name__ == "__main__":
    main()
