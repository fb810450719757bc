"""MERV's training in plain PyTorch: tokens and labels, AdamW with its groups, warm-up and cosine.

Upstream averages the means of batches with different token counts. Here the loss is the sum of losses
divided by the number of labels, as in merv-host.
"""

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy

IGNORED = -100
EOS_TEXT = "</s>"


def caption_tokens(tokenizer, turns, vision, max_length):
    """`AlignDataset`: the last message and its end token. The label of the first token is never used."""
    ids = tokenizer.encode(turns[-1]["value"].strip() + EOS_TEXT).ids[:max_length]
    return ids, masked(list(ids), vision)


def conversation_tokens(tokenizer, turns, vision, max_length):
    """`FinetuneDataset` with `PurePromptBuilder`: separate, right-stripped turns, with loss on replies."""
    ids, labels = [], []
    for number, turn in enumerate(turns):
        message = turn["value"].replace("<image>", "").strip()
        reply = number % 2 == 1
        text = f"{message or ' '}{EOS_TEXT}" if reply else f"In: {message}\nOut: "
        new = tokenizer.encode(text.rstrip(), add_special_tokens=number == 0).ids
        ids += new
        labels += new if reply else [IGNORED] * len(new)
    ids, labels = ids[:max_length], labels[:max_length]
    return ids, masked(labels, vision)


def masked(labels, vision):
    if vision:
        labels[0] = IGNORED
    return labels


def rate(step, total, peak, warmup_ratio=0.03):
    """`linear-warmup+cosine-decay`. Upstream sets the rate of step 0 to 0 explicitly."""
    warmup = int(total * warmup_ratio)
    if step == 0:
        return 0.0
    if step < warmup:
        return peak * step / max(1, warmup)
    return peak * max(0.0, 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))))


def optimizer(named_parameters, weight_decay):
    decay, rest = [], []
    for name, parameter in named_parameters:
        (rest if parameter.ndim <= 1 or name.endswith("bias") else decay).append(parameter)
    return torch.optim.AdamW([
        {"params": decay, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ])


def trained_parameters(pipeline, stage):
    """The names and parameters that a stage trains. All others are frozen."""
    parts = {"mixer": pipeline.mixer}
    if stage != "align":
        parts["llm"] = pipeline.llm
    if stage == "full-finetune":
        parts |= pipeline.encoders
    for module in [pipeline.mixer, pipeline.llm, *pipeline.encoders.values()]:
        module.requires_grad_(False)
    named = [(f"{part}.{name}", p) for part, module in parts.items() for name, p in module.named_parameters()]
    for _, parameter in named:
        parameter.requires_grad_(True)
    return named


def update(adamw, learning_rate, max_grad_norm):
    """Clips the gradient of all trained parameters, takes a step, and returns the norm before clipping."""
    parameters = []
    for group in adamw.param_groups:
        group["lr"] = learning_rate
        parameters += group["params"]
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    adamw.step()
    return float(norm)


def batch_loss(llm, rows, visual):
    """Sum of losses and count of labels of rows of (ids, labels, has vision); visual [clips, V, D]."""
    embeds, targets, clips = [], [], iter(visual if visual is not None else [])
    for ids, labels, vision in rows:
        row = llm.model.embed_tokens(torch.tensor(ids))
        labels = torch.tensor(labels)
        if vision:
            clip = next(clips)
            row = torch.cat([row[:1], clip, row[1:]])
            labels = torch.cat([labels[:1], torch.full((len(clip),), IGNORED), labels[1:]])
        embeds.append(row)
        targets.append(labels)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in embeds], batch_first=True)
    embeds = nn.utils.rnn.pad_sequence(embeds, batch_first=True)
    targets = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED)
    logits = llm(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
    return loss, int((targets[:, 1:] != IGNORED).sum())
