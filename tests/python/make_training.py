"""tests/fixtures/training: gradients of the models in the other fixtures, by torch's autograd.

Weights and clips are those of the cases with the same names. These files contain only what training adds.
"""

import json

import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed

from reference import languagebind_video, llama, timm_vit, vivit
from reference.fixture_files import FIXTURES, randn, setup, write_tensors


def load(folder):
    root = FIXTURES / folder
    config = json.loads((root / "config.json").read_text())
    return config, load_file(root / "model.safetensors"), load_file(root / "io.safetensors")


def write(folder, tensors):
    path = FIXTURES / "training" / f"{folder.replace('/', '-')}.safetensors"
    write_tensors(path, tensors)
    print(f"training/{path.name}: {len(tensors)} tensors, {path.stat().st_size / 1e3:.0f} kB")


def gradients(model):
    """The gradients of parameters that have one, under their names in the file."""
    return {
        f"grad.{name}": parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def adamw(model, scale, names, steps=2):
    """`names` after some steps of torch's AdamW on the present gradients, multiplied by `scale`."""
    decays = lambda name, parameter: parameter.dim() >= 2 and not name.endswith("bias")
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": 0.1},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999), eps=1e-8)
    for _, parameter in named:
        parameter.grad *= scale
    for _ in range(steps):
        optimizer.step()
    state = dict(model.named_parameters())
    return {f"adamw.{name}": state[name] for name in names}


def language_model(name, seed, adamw_of):
    """Three texts, two of them padded: BOS, then four visual embeddings, then text. Parts of them have labels."""
    cfg, weights, _ = load(f"llama2/{name}")
    model = llama.build(cfg)
    model.load_state_dict(weights, strict=not model.config.tie_word_embeddings)
    model.tie_weights()
    vocabulary = model.config.vocab_size
    lengths, visual, length = (13, 9, 7), slice(1, 5), 13
    ids = torch.randint(vocabulary, (3, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.tensor([[1] * n + [0] * (length - n) for n in lengths])
    labels = ids.clone()
    labels[mask == 0] = -100
    labels[:, :6] = -100
    labels[0, 9:11] = -100
    # Only text. The label at position 0 is never used.
    labels[2, :4] = ids[2, :4]
    with torch.enable_grad():
        embeds = model.model.embed_tokens(ids).clone()
        spread = float(embeds.std())
        embeds[:2, visual] = spread * randn(seed + 1, 2, 4, model.config.hidden_size)
        embeds.retain_grad()
        logits = model(inputs_embeds=embeds, attention_mask=mask).logits
        targets = labels[:, 1:]
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
        )
        loss.backward()
    tokens = int((targets != -100).sum())
    found = {
        "ids": ids,
        "embeds": embeds,
        "mask": mask,
        "labels": labels,
        "loss_sum": loss.reshape(1),
        "tokens": torch.tensor([tokens]),
        "embeds_grad": embeds.grad,
        **gradients(model),
    }
    found = {name: tensor.detach().clone() for name, tensor in found.items()}
    found.update(adamw(model, 1 / tokens, adamw_of))
    write(f"llama2/{name}", found)


def encoder(folder, clips, features, model, extra=()):
    """The gradients for a random gradient of the features."""
    weight = randn(7, *features.shape)
    with torch.enable_grad():
        (features * weight).sum().backward()
    found = {"features_grad": weight, "features": features, **gradients(model)}
    found.update({f"grad.{name}": tensor.grad for name, tensor in extra})
    write(folder, found)


def timm_case(folder, run):
    cfg, weights, io = load(folder)
    clips = io["clips"]
    size = clips.shape[-1]
    model = timm_vit.build(cfg, size)
    positions = weights.pop("pos_embed").requires_grad_()
    model.load_state_dict(weights, strict=False)
    with torch.enable_grad():
        grid = size // cfg["model_args"]["patch_size"]
        del model._parameters["pos_embed"]
        # Like timm's own filter, but differentiable.
        model.pos_embed = resample_abs_pos_embed(positions, new_size=[grid, grid], num_prefix_tokens=0)
        features = run(model, clips)
    encoder(folder, clips, features, model, [("pos_embed", positions)])


def languagebind_case(folder):
    cfg, weights, io = load(folder)
    model = languagebind_video.build(cfg)
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    model.requires_grad_(True)  # peft freezes the weights that its adapters change
    with torch.enable_grad():
        features = languagebind_video.features(model, io["clips"])
    encoder(folder, io["clips"], features, model)


def vivit_case(folder):
    cfg, weights, io = load(folder)
    model = vivit.build(cfg)
    model.load_state_dict(weights)
    with torch.enable_grad():
        features = vivit.variants(model, io["clips"])["features.vivit-google-b-all-no-cls"]
    encoder(folder, io["clips"], features, model)


def main():
    setup()
    norm, output = "model.layers.0.input_layernorm.weight", "model.layers.1.self_attn.o_proj.weight"
    language_model("mha", 600, [norm, output])
    language_model("gqa-tied-llama3-rope", 610, [norm, output])
    language_model("qwen2-tied", 620, [norm, output, "model.layers.1.self_attn.q_proj.bias"])
    timm_case("siglip/variants-small-activations", timm_vit.pooled)
    timm_case(
        "dinov2/variants-small-activations",
        lambda model, clips: timm_vit.features_with_class(model, clips, mean=True),
    )
    languagebind_case("languagebind/adapters")
    vivit_case("vivit/variants-small-activations")


if __name__ == "__main__":
    main()
