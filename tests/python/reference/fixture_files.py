"""Writes one fixture: a folder with config.json and safetensors files."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
ASSETS = Path(__file__).resolve().parents[3] / "assets"


def setup():
    """Makes results reproducible: float32, two threads, no gradients."""
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float32)


def randn(seed, *shape, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_lines(path, values):
    """A list with one element per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]\n")


def write_tensors(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    # Tensors that share memory (tied weights, views) must be separate copies.
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors creates files that only their owner can read


def write_case(folder, config, weights, io):
    """folder: a path in tests/fixtures, such as `siglip/tiny`."""
    root = FIXTURES / folder
    write_json(root / "config.json", config)
    write_tensors(root / "model.safetensors", weights)
    write_tensors(root / "io.safetensors", io)
    shapes = {name: list(tensor.shape) for name, tensor in io.items()}
    size = sum(file.stat().st_size for file in root.iterdir())
    print(f"{folder}: {shapes}, {size / 1e3:.0f} kB")
