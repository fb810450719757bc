"""tests/fixtures/training_runs: the lively model's training in PyTorch for each stage, on the examples of data.json in
the order of order.json. That order is the host's, and a test of the host checks it."""

import json

import numpy as np
import torch
from PIL import Image

from reference.fixture_files import FIXTURES, setup
from reference.pipeline import NUM_FRAMES, Pipeline
from reference.training_steps import (
    batch_loss, caption_tokens, conversation_tokens, optimizer, rate, trained_parameters, update,
)
from reference.video_frames import decode_agreed

FOLDER = FIXTURES / "training_runs"
FRAMES = max(NUM_FRAMES.values())
STAGES = {
    "align": {"learning_rate": 2e-2, "weight_decay": 0.0},
    "finetune": {"learning_rate": 2e-3, "weight_decay": 0.1},
    "full-finetune": {"learning_rate": 1e-3, "weight_decay": 0.1},
}
MAX_GRAD_NORM = 1.0
# Truncates some of the conversations.
CUT = 24


def frames(example):
    if "video" in example:
        return decode_agreed(FOLDER / example["video"], FRAMES)[1]
    if "image" in example:
        return np.stack([np.asarray(Image.open(FOLDER / example["image"]).convert("RGB"))] * FRAMES)
    return None


def tokens(tokenizer, example, stage, max_length=512):
    form = caption_tokens if stage == "align" else conversation_tokens
    return form(tokenizer, example["conversations"], "video" in example or "image" in example, max_length)


def train(stage, examples, clips, order):
    pipeline = Pipeline(FIXTURES / "lively")
    trained = trained_parameters(pipeline, stage)
    trains_encoders = stage == "full-finetune"
    settings = STAGES[stage]
    adamw = optimizer(trained, settings["weight_decay"])
    frozen = {}
    if not trains_encoders:
        frozen = {number: list(pipeline.features(clip).values()) for number, clip in clips.items()}
    losses, norms = [], []
    for step, numbers in enumerate(order):
        rows, features = [], []
        for number in numbers:
            ids, labels = tokens(pipeline.tokenizer, examples[number], stage)
            rows.append((ids, labels, number in clips))
            if number in clips:
                features.append(frozen.get(number) or list(pipeline.features(clips[number]).values()))
        with torch.enable_grad():
            visual = None
            if features:
                if trains_encoders:
                    features = [list(pipeline.features(clips[number]).values()) for number in numbers]
                visual = pipeline.mixer([torch.cat(encoder) for encoder in zip(*features)])[1]
            loss, count = batch_loss(pipeline.llm, rows, visual)
            adamw.zero_grad(set_to_none=True)
            if loss.requires_grad:
                (loss / count).backward()
        norms.append(update(adamw, rate(step, len(order), settings["learning_rate"]), MAX_GRAD_NORM))
        losses.append(float(loss) / count)
    print(f"{stage}: {losses[0]:.3f} … {losses[-1]:.3f}, norms {min(norms):.3f} to {max(norms):.3f}")
    return {**settings, "loss": losses, "gradient_norm": norms}


def main():
    setup()
    examples = json.loads((FOLDER / "data.json").read_text())
    order = json.loads((FOLDER / "order.json").read_text())
    pipeline = Pipeline(FIXTURES / "lively")
    seen = {number: frames(example) for number, example in enumerate(examples)}
    clips = {number: pipeline.clips(film) for number, film in seen.items() if film is not None}
    texts = {
        name: [dict(zip(("ids", "labels"), tokens(pipeline.tokenizer, example, stage, length))) for example in examples]
        for name, stage, length in (("align", "align", 512), ("finetune", "finetune", 512), ("cut", "finetune", CUT))
    }
    runs = {
        "align": train("align", examples, clips, order["align"]),
        "finetune": train("finetune", examples, clips, order["finetune"]),
        "full-finetune": train("full-finetune", examples, clips, order["finetune"][:8]),
    }
    expected = {"max_grad_norm": MAX_GRAD_NORM, "cut": CUT, "tokens": texts, "runs": runs}
    (FOLDER / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
