"""tests/fixtures/e2e/tiny.json: the answers of merv-tiny in PyTorch, with its f16 weights in f32, in at most 32 tokens.

Run it again when assets/merv-tiny changes. end_to_end.rs checks that the answers are correct.
"""

from make_choices import message
from reference.fixture_files import ASSETS, FIXTURES, setup, write_json
from reference.pipeline import Pipeline
from reference.video_frames import decode_agreed

TEMPORAL, EOS, STEPS = 8, 2, 32
PROMPTS = [
    "Describe what is happening in this video.",
    "Where does the shape move?",
    "Which shape moves?",
    "What colour is the shape that moves?",
    "Is the shape slow or fast?",
    message("Which shape moves?", ["circle", "star", "ring", "cross"]),
]


def main():
    setup()
    pipeline = Pipeline(ASSETS / "merv-tiny", TEMPORAL)
    cases = []
    for video in ("shapes.mp4", "bigbuckbunny.mp4"):
        _, frames = decode_agreed(ASSETS / video, max(pipeline.num_frames.values()))
        for prompt in PROMPTS:
            result = pipeline.run(frames, prompt, STEPS)
            tokens = result["tokens"].tolist()
            if EOS in tokens:
                tokens = tokens[: tokens.index(EOS)]
            weights = dict(zip(result["clips"], result["mixer_weights"][0].tolist()))
            text = pipeline.tokenizer.decode(tokens)
            cases.append({"video": video, "prompt": prompt, "tokens": tokens, "text": text, "mixer_weights": weights})
            print(f"{video}: {prompt} {text!r}")
    write_json(FIXTURES / "e2e" / "tiny.json", cases)


if __name__ == "__main__":
    main()
