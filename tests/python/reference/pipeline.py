"""The complete MERV model in PyTorch, with the files of a model at toy size."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from reference import clip_transforms, languagebind_video, llama, mixer, timm_vit, vivit

# Encoder id -> folder of the model, which is also the name of the transform. In merv-full's order.
ENCODERS = {
    "languagebind-video-noclass": "languagebind",
    "dinov2-video-all-tokens": "dinov2",
    "vivit-google-b-all-no-cls-16frames": "vivit",
    "siglip-vit-b16-224px-all-no-cls": "siglip",
}
# The number of frames of each encoder, selected from the largest number.
NUM_FRAMES = {
    "languagebind-video-noclass": 16,
    "dinov2-video-all-tokens": 16,
    "vivit-google-b-all-no-cls-16frames": 32,
    "siglip-vit-b16-224px-all-no-cls": 16,
}
BUILDERS = {"languagebind": languagebind_video, "dinov2": timm_vit, "vivit": vivit, "siglip": timm_vit}
IMAGE_SIZE = 64
TEMPORAL, TOKEN_LENGTH = 16, 16


def pure_prompt(message):
    """The `pure` format, without the trailing space."""
    return f"In: {message.strip()}\nOut: ".rstrip()


class Pipeline:
    """temporal: time steps of every encoder's features. ViViT uses two frames per time step."""

    def __init__(self, root, temporal=TEMPORAL):
        root = Path(root)
        self.num_frames = {name: frames * temporal // TEMPORAL for name, frames in NUM_FRAMES.items()}
        self.encoders = {}
        for name, folder in ENCODERS.items():
            cfg = json.loads((root / folder / "config.json").read_text())
            model = BUILDERS[folder].build(cfg)
            weights = load_file(root / folder / "model.safetensors")
            # A buffer in the published file that newer versions of transformers compute.
            weights.pop("text_model.embeddings.position_ids", None)
            if folder == "vivit":
                weights = {key.removeprefix("vivit."): value for key, value in weights.items() if "classifier" not in key}
            missing, surplus = model.load_state_dict(weights, strict=False)
            # LanguageBind's text side, which MERV does not use.
            unused = ("text_model.", "text_projection.", "logit_scale")
            assert not surplus and all(name.startswith(unused) for name in missing), (missing, surplus)
            self.encoders[name] = model

        llm_cfg = json.loads((root / "llm" / "config.json").read_text())
        self.llm = llama.build(llm_cfg)
        self.llm.load_state_dict(load_file(root / "llm" / "model.safetensors"))
        self.tokenizer = Tokenizer.from_file(str(root / "llm" / "tokenizer.json"))

        weights = load_file(root / "mixer.safetensors")
        widths = [weights[f"projectors.{index}.projector.projector.weight"].shape[1] for index in range(len(ENCODERS))]
        self.mixer = mixer.Mixer(
            widths,
            spatial=[64] * len(ENCODERS),
            temporal=temporal,
            token_length=TOKEN_LENGTH,
            llm_width=llm_cfg["hidden_size"],
            query_width=weights["feature_fusion.Q"].shape[1],
        ).eval()
        self.mixer.load_state_dict(weights)

    def clips(self, frames):
        """uint8 [largest number of frames, H, W, 3] to encoder id -> [1, F, 3, S, S]."""
        return {
            name: clip_transforms.clip(frames[:: len(frames) // self.num_frames[name]], folder, IMAGE_SIZE)[None]
            for name, folder in ENCODERS.items()
        }

    def features(self, clips):
        return {name: BUILDERS[ENCODERS[name]].features(self.encoders[name], clip) for name, clip in clips.items()}

    def prompt_ids(self, message):
        """The ids of a prompt, with the BOS that the tokenizer adds."""
        return torch.tensor(self.tokenizer.encode(pure_prompt(message)).ids)

    def generate(self, fused, prompt_ids, steps):
        """Greedy decoding. Returns the tokens [steps] and the logits [steps, V]."""
        embedded = self.llm.model.embed_tokens(prompt_ids)
        embeds = torch.cat([embedded[:1], fused, embedded[1:]])
        logits, cache = llama.prefill(self.llm, embeds)
        logits, rows, tokens = logits[-1], [], []
        while True:
            rows.append(logits)
            tokens.append(int(logits.argmax()))
            if len(tokens) == steps:
                return torch.tensor(tokens), torch.stack(rows)
            logits, cache = llama.decode(self.llm, tokens[-1], cache)

    def run(self, frames, message, steps):
        """All results from frames to text, under the names of `merv-host generate --dump`."""
        clips = self.clips(frames)
        features = self.features(clips)
        projected, fused, weights = self.mixer(list(features.values()))
        prompt_ids = self.prompt_ids(message)
        tokens, logits = self.generate(fused[0], prompt_ids, steps)
        return {
            "clips": clips,
            "features": features,
            "projected": dict(zip(ENCODERS, projected)),
            "fused": fused,
            "mixer_weights": weights,
            "prompt_ids": prompt_ids,
            "logits": logits,
            "tokens": tokens,
            "text": self.tokenizer.decode(tokens.tolist()),
        }
