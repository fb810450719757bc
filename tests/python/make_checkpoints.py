"""tests/fixtures/checkpoint: files in all formats of torch.save, and their contents.

Every case is a PyTorch file and `<case>.safetensors`, which contains the same tensors under the names that
merv-checkpoint gives them.
"""

from collections import OrderedDict

import numpy as np
import torch
from reference.fixture_files import FIXTURES, randn, setup, write_json, write_tensors

FOLDER = FIXTURES / "checkpoint"


def views():
    base = randn(700, 4, 6)
    shared = randn(701, 10)
    tied = torch.nn.Parameter(randn(702, 3, 5))
    tied.note = "an attribute"
    marked = randn(703, 3)
    marked.note = 7
    return {
        "whole": base,
        "transposed": base.t(),
        "rows": base[1:3],
        "columns": base[:, 2:5],
        "every_second": base[::2, 1::2],
        "permuted": randn(704, 2, 3, 4).permute(2, 0, 1),
        "one_row_turned": randn(705, 1, 5).t(),
        "shared_front": shared[:4],
        "shared_back": shared[3:],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": tied,
        "the_same_parameter": tied,
        "marked": marked,
    }


def dtypes():
    numbers = [-3, 0, 1, 100]
    kinds = [
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8,
    ]
    tensors = {str(kind).removeprefix("torch."): torch.tensor(numbers, dtype=kind) for kind in kinds}
    tensors["uint8"] = torch.tensor([0, 1, 200, 255], dtype=torch.uint8)
    tensors["bool"] = torch.tensor([True, False, False, True])
    return tensors


def state_dict():
    torch.manual_seed(710)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.LayerNorm(4)))
    return model.state_dict()


def beside_tensors():
    """Values that training stores besides tensors. All of them must be skipped."""
    return {
        "step": 512, "big": 1 << 80, "loss": 0.25, "name": "merv", "done": True, "none": None,
        "betas": (0.9, 0.999), "list": [1, [2.5, "x"]], "size": torch.Size([2, 3]),
        "device": torch.device("cpu"), "dtype": torch.bfloat16,
        "numpy": np.float64(1.5), "numpy_int": np.int64(3), "raw": b"bytes",
        "weights": {"a": randn(711, 2)}, "listed": [randn(712, 2), randn(713, 1)],
        "state": {0: {"exp_avg": randn(714, 2)}},
    }


def merv(llm, old_names=False):
    """A checkpoint as MERV's training writes it, with one encoder in the older form."""
    projector = OrderedDict({"projector.projector.weight": randn(720, 4, 3), "projector.projector.bias": randn(721, 4)})
    fusion = OrderedDict({"Q": randn(722, 1, 5), "attention.q_proj_weight": randn(723, 4, 5)})
    if old_names:
        model = {"projector": projector, "adapter": fusion}
    else:
        projectors = OrderedDict({f"{index}.{name}": tensor + index for index in range(2) for name, tensor in projector.items()})
        model = {"projectors": projectors, "feature_fusion": fusion}
    if llm:
        model["llm_backbone"] = OrderedDict({
            "llm.model.embed_tokens.weight": randn(724, 6, 4).bfloat16(),
            "llm.lm_head.weight": randn(725, 6, 4).bfloat16(),
        })
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": randn(726, 4)}},
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}],
    }
    return {"model": model, "optimizer": optimizer, "lr_scheduler": {"base_lrs": [0.1], "lr_lambdas": [{}]}, "step": 3}


CASES = {
    "views": views(),
    "dtypes": dtypes(),
    "state-dict": state_dict(),
    "beside-tensors": beside_tensors(),
    "merv": merv(llm=True),
    "merv-align": merv(llm=False),
    "merv-old-names": merv(llm=True, old_names=True),
}


def named(value, path=""):
    """The tensors of nested containers, with their keys joined by dots."""
    if isinstance(value, torch.Tensor):
        return {path: value.detach().clone().contiguous()}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    tensors = {}
    for key, inner in items:
        tensors |= named(inner, f"{path}.{key}" if path else str(key))
    return tensors


def main():
    setup()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, value in CASES.items():
        write_tensors(FOLDER / f"{name}.safetensors", named(value))
        torch.save(value, FOLDER / f"{name}.zip.pt")
        torch.save(value, FOLDER / f"{name}.legacy.pt", _use_new_zipfile_serialization=False)
        torch.save(value, FOLDER / f"{name}.protocol4.pt", pickle_protocol=4)
    # A checkpoint in two shards, in Hugging Face's format.
    tensors = named(CASES["state-dict"])
    first, second = dict(list(tensors.items())[:2]), dict(list(tensors.items())[2:])
    files = {"pytorch_model-00001-of-00002.bin": first, "pytorch_model-00002-of-00002.bin": second}
    (FOLDER / "sharded").mkdir(exist_ok=True)
    for file, part in files.items():
        torch.save(part, FOLDER / "sharded" / file)
    write_json(FOLDER / "sharded" / "pytorch_model.bin.index.json", {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {name: file for file, part in files.items() for name in part},
    })
    print(f"checkpoint: {', '.join(CASES)}")


if __name__ == "__main__":
    main()
