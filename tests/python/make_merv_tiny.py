"""The steps of `scripts/train-merv-tiny` that `merv-host` does not do: the model before training, and its parts after.

    examples DATA              DATA/recipe.json: the most useful examples of DATA/train.json; DATA/images.json: images from
                               clips that look the same from beginning to end
    descriptions DATA          DATA/eval_data/shapes-descriptions: its captions as a benchmark for `merv-host eval`
    begin OUT DATA             every part of merv-full at toy size, untrained; the tokenizer gets DATA's words
    follow BEGIN RUN OUT       the same with the language model that RUN trained
    join BEGIN RUN OUT OTHER…  the same with everything that RUN trained, which is one encoder alone, and the encoders of
                               the OTHER runs, whose weight increases gradually
    export OUT MIX LAST ALONE… the files of assets/merv-tiny and assets/merv-tiny-alone: the encoders of MIX, the mixer and
                               the language model of LAST, and all parts of the runs of each encoder alone

BEGIN and OUT are folders with `registry.toml` for the mix and one `<encoder>.toml` for each encoder alone; RUN, MIX,
LAST and ALONE are folders of `merv-host train`.
"""

import json
import random
import re
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import torch
from safetensors.torch import load_file

from reference import languagebind_video, llama, timm_vit, toy_tokenizer, vivit
from reference.fixture_files import setup, write_json, write_tensors
from reference.mixer import Mixer

IMAGE, PATCH, WIDTH, DEPTH, HEADS = 64, 8, 64, 3, 4
TUBELET, VIVIT_WIDTH = 16, 96
PICTURES = 16  # images from a clip, for the encoders that process single frames
FRAMES, TOKENS = 8, 16  # time steps of every encoder (ViViT's tubelets have two frames); visual tokens per frame
VOCABULARY, BOS, EOS, PAD = 1024, 1, 2, 1023
LLM_WIDTH, LLM_DEPTH, QUERY_WIDTH = 128, 4, 64
SIDE = IMAGE // PATCH

# Encoder id, plugin and frames, in the order of the mixer's projectors.
ENCODERS = [
    ("languagebind-video-noclass", "languagebind", FRAMES),
    ("dinov2-video-all-tokens", "dinov2", FRAMES),
    ("vivit-google-b-all-no-cls-16frames", "vivit", 2 * FRAMES),
    ("siglip-vit-b16-224px-all-no-cls", "siglip", FRAMES),
]
FOLDERS = [folder for _, folder, _ in ENCODERS]

HEAD = """\
schema = 1
id = "{id}"
description = "{description}"
license = "MIT OR Apache-2.0, as this repository"
"""

ENCODER = """
[[encoders]]
id = "{id}"
plugin = "{folder}"
num_frames = {frames}
weights = {{ path = "{weights}" }}
config = {{ path = "{root}{folder}/config.json" }}
"""

TAIL = """
[llm]
id = "llama"
plugin = "llama2"
weights = {{ path = "{llm}" }}
tokenizer = {{ path = "{root}llm/tokenizer.json" }}
config = {{ path = "{root}llm/config.json" }}
prompt = "pure"
marks = "remove-all"
max_length = 512

[transform]
resize = "resize-naive"

[mixer]
projector = "3davg+linear"
fusion = "cross_attention_avg_lq"
token_length = {tokens}
visual_feature_length = {length}
weights = {{ path = "{mixer}" }}
"""


def registry(name, description, encoders, root="", weights="{folder}/model.safetensors", llm="llm/model.safetensors", mixer="mixer.safetensors"):
    """The text of a registry. Paths of configs and the tokenizer start with `root`."""
    parts = [HEAD.format(id=name, description=description)]
    for id, folder, frames in encoders:
        path = weights.format(folder=folder)
        parts.append(ENCODER.format(id=id, folder=folder, frames=frames, weights=path, root=root))
    parts.append(TAIL.format(llm=llm, root=root, mixer=mixer, tokens=TOKENS, length=FRAMES * TOKENS))
    return "".join(parts)


def alone(tensors, index):
    """The mixer with only one projector."""
    kept = {}
    for name, tensor in tensors.items():
        if name.startswith(f"projectors.{index}."):
            kept["projectors.0." + name.split(".", 2)[2]] = tensor
        elif not name.startswith("projectors."):
            kept[name] = tensor
    return kept


def waves(*sides, width=WIDTH):
    """Sines and cosines of every position in a grid, [prod(sides), width]. Near positions are similar from the start."""
    each = width // (2 * len(sides))
    grids = np.meshgrid(*[np.arange(side) for side in sides], indexing="ij")
    parts = []
    for grid, side in zip(grids, sides):
        angles = grid.reshape(-1, 1) * np.pi / side * 2.0 ** np.linspace(-1, np.log2(side) - 1, each)
        parts += [np.sin(angles), np.cos(angles)]
    table = np.concatenate(parts, 1)
    table = np.pad(table, ((0, 0), (0, width - table.shape[1])))
    return torch.tensor(table, dtype=torch.float32)


def initial(model, seed, depth):
    """Variance-preserving matrices, neutral norms and no biases. The outputs of blocks are small, so that they add up."""
    generator = torch.Generator().manual_seed(seed)
    ends = ("attn.proj.weight", "fc2.weight", "out_proj.weight", "output.dense.weight", "o_proj.weight", "down_proj.weight")
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() >= 2 and not name.endswith(("pos_embed", "position_embeddings", "cls_token", "reg_token")):
                fan_in = parameter[0].numel()
                scale = fan_in**-0.5 * ((2 * depth) ** -0.5 if name.endswith(ends) else 1.0)
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
            elif name.endswith(("gamma",)) or (name.endswith("weight") and parameter.dim() == 1):
                parameter.fill_(1.0)
            elif parameter.dim() == 1:
                parameter.zero_()
            else:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def begin(root, data):
    def write_model(folder, config, weights):
        write_json(root / folder / "config.json", config)
        write_tensors(root / folder / "model.safetensors", weights)

    grid = 0.5 * waves(SIDE, SIDE)
    sizes = dict(img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2)
    # The features are those of the second-to-last block.
    sizes["depth"] += 1
    cfg = timm_vit.config(timm_vit.SIGLIP, **sizes)
    model = initial(timm_vit.build(cfg), 1, DEPTH)
    with torch.no_grad():
        model.pos_embed.copy_(grid[None])
    write_model("siglip", cfg, model.state_dict())

    cfg = timm_vit.config(timm_vit.DINOV2, **sizes, reg_tokens=4, no_embed_class=True, init_values=1.0)
    model = initial(timm_vit.build(cfg), 2, DEPTH)
    with torch.no_grad():
        model.pos_embed.copy_(grid[None])
    write_model("dinov2", cfg, model.state_dict())

    cfg = languagebind_video.config(
        "gelu", FRAMES, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH, patch_size=PATCH, image_size=IMAGE,
    )
    model = initial(languagebind_video.build(cfg), 3, DEPTH)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("vision_model.embeddings.position_embedding.weight"):
                parameter[1:].copy_(grid)
            if name.endswith("temporal_embedding"):
                parameter.copy_(0.5 * waves(FRAMES)[None])
    write_model("languagebind", cfg, languagebind_video.weights(model))

    cfg = vivit.config(
        image_size=IMAGE, num_frames=2 * FRAMES, tubelet_size=[2, TUBELET, TUBELET], hidden_size=VIVIT_WIDTH,
        num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=2 * VIVIT_WIDTH,
    )
    model = initial(vivit.build_with_head(cfg), 4, DEPTH)
    with torch.no_grad():
        model.vivit.embeddings.position_embeddings[0, 1:].copy_(0.5 * waves(FRAMES, IMAGE // TUBELET, IMAGE // TUBELET, width=VIVIT_WIDTH))
    write_model("vivit", cfg, model.state_dict())

    made = Mixer(
        [WIDTH, WIDTH, VIVIT_WIDTH, WIDTH], spatial=[SIDE * SIDE] * 4, temporal=FRAMES, token_length=TOKENS,
        llm_width=LLM_WIDTH, query_width=QUERY_WIDTH,
    )
    mixer = initial(made, 5, 1).state_dict()
    write_tensors(root / "mixer.safetensors", mixer)
    (root / "registry.toml").write_text(registry("merv-tiny", "Nothing learned yet", ENCODERS))
    for index, encoder in enumerate(ENCODERS):
        folder = encoder[1]
        write_tensors(root / f"mixer-{folder}.safetensors", alone(mixer, index))
        text = registry(f"merv-tiny-{folder}", "Nothing learned yet", [encoder], mixer=f"mixer-{folder}.safetensors")
        (root / f"{folder}.toml").write_text(text)
        if folder in ("dinov2", "siglip"):
            # These process single frames. An image teaches as much as a clip, and takes an eighth of the time.
            picture = text.replace("num_frames = 8", "num_frames = 1")
            picture = picture.replace(f"feature_length = {FRAMES * TOKENS}", f"feature_length = {TOKENS}")
            (root / f"{folder}-image.toml").write_text(picture)

    cfg = llama.config(
        vocab_size=VOCABULARY, hidden_size=LLM_WIDTH, intermediate_size=2 * LLM_WIDTH, num_hidden_layers=LLM_DEPTH,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, rms_norm_eps=1e-5,
        tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
    )
    model = initial(llama.build(cfg), 6, LLM_DEPTH)
    with torch.no_grad():
        rows = model.model.embed_tokens.weight
        rows.copy_(0.5 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(7)))
    write_model("llm", cfg, llama.weights(model))

    examples = json.loads((data / "train.json").read_text())[:6000]
    lines = [turn["value"] for example in examples for turn in example["conversations"]]
    lines = [line for text in lines for line in text.removeprefix("<video>").splitlines() if line]
    toy_tokenizer.train(VOCABULARY, lines).save(str(root / "llm" / "tokenizer.json"))


def examples(data):
    """Captions and open questions. Kinds that are learned early occur once in every other conversation."""
    chance = random.Random(7)
    kept = []
    for example in json.loads((data / "train.json").read_text()):
        if example["id"].endswith("-choices"):
            continue
        if example["id"].endswith("-questions"):
            turns = example["conversations"]
            pairs = list(zip(turns[::2], turns[1::2]))
            early = [pair for pair in pairs if re.search("colour|camera|Is the shape", pair[0]["value"])]
            late = [pair for pair in pairs if pair not in early]
            chosen = late + ([chance.choice(early)] if early and chance.random() < 0.5 else [])
            chance.shuffle(chosen)
            turns = []
            for index, (asked, said) in enumerate(chosen):
                mark = "" if index else "<video>\n"
                turns += [{"from": "human", "value": mark + asked["value"].removeprefix("<video>\n")}, said]
            example = {**example, "conversations": turns}
        kept.append(example)
    (data / "recipe.json").write_text(json.dumps(kept))
    pictures(data)


def descriptions(data):
    """Every clip's caption as the answer to the question about it."""
    out = data / "eval_data" / "shapes-descriptions"
    out.mkdir(parents=True)
    (out / "videos").symlink_to((data / "videos").resolve())
    questions, answers = [], []
    for number, example in enumerate(json.loads((data / "captions.json").read_text())):
        asked, said = example["conversations"]
        kind = example["combination"].split("/")[0]
        questions.append(
            {
                "question_id": number, "video_name": Path(example["video"]).stem, "kind": kind,
                "question": asked["value"].removeprefix("<video>\n"),
            }
        )
        answers.append({"question_id": number, "answer": said["value"], "type": kind})
    (out / "test_q.json").write_text(json.dumps(questions))
    (out / "test_a.json").write_text(json.dumps(answers))


def pictures(data):
    """Questions that an image answers: always about the shape, sometimes about its colour, size and number."""
    chance = random.Random(11)
    (data / "frames").mkdir(exist_ok=True)
    made = []
    for example in json.loads((data / "train.json").read_text()):
        if not example["id"].endswith("-questions") or not re.match("moves|counts|turns", example["combination"]):
            continue
        turns = example["conversations"]
        pairs = list(zip(turns[::2], turns[1::2]))
        shape = [pair for pair in pairs if "Which shape" in pair[0]["value"]]
        rest = [pair for pair in pairs if re.search("How many|colour|small or large", pair[0]["value"])]
        clip = example["id"].removesuffix("-questions")
        numbers = sorted(chance.sample(range(32), PICTURES))
        with av.open(str(data / example["video"])) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in numbers:
                    frame.to_image().save(data / "frames" / f"{clip}-{number:02}.png", compress_level=1)
        for number in numbers:
            chosen = shape + [pair for pair in rest if chance.random() < 0.2]
            chance.shuffle(chosen)
            conversation = []
            for index, (asked, said) in enumerate(chosen):
                mark = "" if index else "<image>\n"
                conversation += [{"from": "human", "value": mark + asked["value"].removeprefix("<video>\n")}, said]
            name = f"{clip}-{number:02}"
            made.append({"id": name, "image": f"frames/{name}.png", "conversations": conversation})
    (data / "images.json").write_text(json.dumps(made))


def newest(run):
    return max((run / "checkpoints").glob("step-*"), default=None) or sys.exit(f"{run} does not contain a checkpoint")


def encoder_file(run, index):
    return newest(run) / f"encoder-{ENCODERS[index][0]}.safetensors"


def trained_in(run):
    """The indices of the encoders that a run trained."""
    return [index for index in range(len(ENCODERS)) if encoder_file(run, index).exists()]


def follow(start, run, out):
    shutil.copytree(start, out)
    shutil.copy(newest(run) / "llm.safetensors", out / "llm/model.safetensors")


def join(start, run, out, *others):
    """RUN trained one encoder alone. What it and its language model learned stays valid with the other encoders.

    The others start at zero, and all have the same weight. The softmax of the weights comes to prefer the best encoder,
    and the others then learn less. Adam's steps have a fixed size, so small keys keep the weights equal for longer."""
    follow(start, run, out)
    sources = {trained_in(source)[0]: source for source in (run, *others)}
    [own] = trained_in(run)
    for index, source in sources.items():
        shutil.copy(encoder_file(source, index), out / FOLDERS[index] / "model.safetensors")
    learned, mixer = load_file(newest(run) / "mixer.safetensors"), load_file(out / "mixer.safetensors")
    for name, tensor in mixer.items():
        if name.startswith(f"projectors.{own}."):
            # A quarter of the weight needs four times the scale for the same result.
            mixer[name] = len(ENCODERS) * learned["projectors.0." + name.split(".", 2)[2]]
        elif name.startswith("projectors.") or name.endswith(("Q", "bias")):
            mixer[name] = torch.zeros_like(tensor)
        elif name.endswith("k_proj_weight"):
            mixer[name] = 0.25 * tensor
    write_tensors(out / "mixer.safetensors", mixer)


def export(out, mix, last, *runs):
    """Writes weights as f16. Those of the single encoders go into a separate folder next to OUT."""
    begin_at = Path(re.search(r'config = { path = "(.*)/llm/config.json"', (mix / "registry.toml").read_text())[1])

    def halve(source, target):
        # The text tower in a LanguageBind checkpoint is not used.
        kept = {name: tensor for name, tensor in load_file(source).items() if not name.startswith("text_")}
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
        write_tensors(target, tensors)

    for index, folder in enumerate(FOLDERS):
        (out / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(begin_at / folder / "config.json", out / folder)
        halve(encoder_file(mix, index), out / folder / "model.safetensors")
    (out / "llm").mkdir(exist_ok=True)
    for file in ("config.json", "tokenizer.json"):
        shutil.copy(begin_at / "llm" / file, out / "llm")
    halve(newest(last) / "llm.safetensors", out / "llm/model.safetensors")
    halve(newest(last) / "mixer.safetensors", out / "mixer.safetensors")
    for index, (encoder, run) in enumerate(zip(ENCODERS, runs, strict=True)):
        folder = encoder[1]
        to = out.with_name(f"{out.name}-alone") / folder
        halve(encoder_file(run, index), to / "encoder.safetensors")
        halve(newest(run) / "llm.safetensors", to / "llm.safetensors")
        halve(newest(run) / "mixer.safetensors", to / "mixer.safetensors")
        text = registry(
            f"{folder} alone", "One encoder of merv-tiny, trained without the others", [encoder], root=f"../../{out.name}/",
            weights="encoder.safetensors", llm="llm.safetensors",
        )
        (to / "registry.toml").write_text(text)


def main():
    setup()
    commands = {"examples": examples, "descriptions": descriptions, "begin": begin, "follow": follow, "join": join, "export": export}
    commands[sys.argv[1]](*map(Path, sys.argv[2:]))


if __name__ == "__main__":
    main()
