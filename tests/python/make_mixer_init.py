"""tests/fixtures/mixer_init.json: the original's initialisation of every tensor of every mixer, measured over many mixers."""

import json

import torch

from make_mixer import CASES, FUSION
from reference.fixture_files import FIXTURES, setup
from reference.mixer import Mixer

# Mixers per kind. The fusion `scalar` has few numbers and needs more.
DRAWS, MANY_DRAWS = 200, 2000


def measured(values):
    """The extremes and the standard deviation of one tensor over all draws."""
    found = {"low": values.min(), "high": values.max(), "std": values.std(unbiased=False)}
    return {key: round(float(value), 5) for key, value in found.items()}


def case(meta):
    meta = {"projector": "3davg+linear", "fusion": FUSION} | meta
    arguments = {key: value for key, value in meta.items() if key != "fusion"}
    draws = {}
    for seed in range(MANY_DRAWS if meta["fusion"] == "scalar" else DRAWS):
        torch.manual_seed(seed)
        mixer = Mixer(**arguments, fusion_name=meta["fusion"])
        for name, tensor in mixer.state_dict().items():
            draws.setdefault(name, []).append(tensor)
    temporal = mixer.temporal
    length = meta.get("visual_feature_length", meta["token_length"] * max(temporal))
    tensors = {
        name: {"shape": list(values[0].shape)} | measured(torch.stack(values)) for name, values in draws.items()
    }
    return meta | {"temporal": temporal, "visual_feature_length": length, "tensors": tensors}


def main():
    setup()
    # Kinds that differ only in the scale of their inputs have the same initialisation.
    cases = {name: case(meta) for name, meta in CASES.items() if "scale" not in meta}
    (FIXTURES / "mixer_init.json").write_text(json.dumps(cases, indent=1) + "\n")
    print(f"mixer_init.json: {len(cases)} kinds")


if __name__ == "__main__":
    main()
