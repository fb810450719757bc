"""Times the steps of training the lively model in PyTorch, and prints one JSON line.

The examples and their order come from `make bench-train`, which trains `merv-host` on the same. PyTorch's clips are
decoded before the timing starts. Attention is PyTorch's fused one where the models support it. The last block of
three encoders is not computed, because no feature depends on it.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from reference.fixture_files import FIXTURES, setup
from reference.pipeline import NUM_FRAMES, Pipeline
from reference.training_steps import batch_loss, conversation_tokens, optimizer, rate, trained_parameters, update
from reference.video_frames import decode_agreed


class Image(torch.nn.Module):
    """Replaces a block of timm's."""

    def forward(self, x, *args, **kwargs):
        return x


class Video(torch.nn.Module):
    """Replaces a layer of LanguageBind's."""

    def forward(self, x, *args, **kwargs):
        return (x,)


def pipeline():
    whole = Pipeline(FIXTURES / "lively")
    whole.llm.set_attn_implementation("sdpa")
    for id, encoder in whole.encoders.items():
        if hasattr(encoder, "blocks"):
            encoder.blocks[-1] = Image()
        elif "languagebind" in id:
            encoder.vision_model.encoder.layers[-1] = Video()
        else:
            encoder.set_attn_implementation("sdpa")
    return whole


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=Path, required=True, help="stage, examples, order and settings, as JSON")
    job = json.loads(parser.parse_args().job.read_text())
    setup()
    torch.set_num_threads(job["threads"])
    model = pipeline()
    trained = trained_parameters(model, job["stage"])
    trains_encoders = job["stage"] == "full-finetune"
    adamw = optimizer(trained, job["weight_decay"])
    examples, order = json.loads(Path(job["data"]).read_text()), job["order"]
    paths = {number: examples[number]["video"] for batch in order for number in batch}
    folder = Path(job["data"]).parent
    seen = {
        path: model.clips(decode_agreed(folder / path, max(NUM_FRAMES.values()))[1]) for path in set(paths.values())
    }

    seconds, losses = [], []
    for step, numbers in enumerate(order):
        start = time.perf_counter()
        clips = [seen[paths[number]] for number in numbers]
        batch = {id: torch.cat([clip[id] for clip in clips]) for id in NUM_FRAMES}
        texts = [examples[number]["conversations"] for number in numbers]
        rows = [(*conversation_tokens(model.tokenizer, turns, True, job["max_length"]), True) for turns in texts]
        with torch.set_grad_enabled(trains_encoders):
            features = list(model.features(batch).values())
        with torch.enable_grad():
            loss, count = batch_loss(model.llm, rows, model.mixer(features)[1])
            adamw.zero_grad(set_to_none=True)
            (loss / count).backward()
        update(adamw, rate(step, len(order), job["learning_rate"]), job["max_grad_norm"])
        losses.append(float(loss) / count)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"torch": torch.__version__, "threads": job["threads"], "seconds": seconds, "loss": losses}))


if __name__ == "__main__":
    main()
