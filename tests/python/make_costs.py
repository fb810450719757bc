"""tests/fixtures/costs.json: the costs of the published models, counted by torch on the meta device.

Parameters are those on which the features or logits depend. Multiply-accumulates are those of linear
layers, convolutions and attention, for one clip of one video (encoders) or one token (language
model, without attention over the context).
"""

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from reference import languagebind_video, llama, timm_vit, vivit
from reference.fixture_files import FIXTURES, setup, write_json
from reference.mixer import Mixer

FRAMES = 16


def count(run, scale=1):
    with FlopCounterMode(display=False) as counter:
        run()
    return scale * counter.get_total_flops() // 2


def numel(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def timm_cost(architecture):
    """The blocks before the last one: published parameters, and operations at 224 pixels."""
    published, model = (timm.create_model(architecture, num_classes=0, **size) for size in ({}, {"img_size": 224}))
    for block in model.blocks:
        block.attn.fused_attn = False  # products that the counter recognises
    del model.blocks[-1]  # timm would run it, although its output is not used
    frame = torch.empty(1, 3, 224, 224)
    macs = count(lambda: timm_vit.features(model, frame[None]), FRAMES)
    tokens = [p for p in (published.pos_embed, published.cls_token, published.reg_token) if p is not None]
    used = numel(published.patch_embed, *published.blocks[:-1]) + sum(p.numel() for p in tokens)
    return {"parameters": used, "macs": macs}


def languagebind_cost():
    cfg = languagebind_video.config(
        "gelu", 8, hidden_size=1024, num_hidden_layers=23, num_attention_heads=16, intermediate_size=4096,
        patch_size=14, image_size=224,
    )
    tower = languagebind_video.build(cfg).vision_model
    macs = count(lambda: tower(torch.empty(1, 3, FRAMES, 224, 224)))
    return {"parameters": numel(tower) - numel(tower.post_layernorm), "macs": macs}


def vivit_cost():
    cfg = vivit.config()
    cfg["attn_implementation"] = "eager"
    model = vivit.build(cfg)
    macs = count(lambda: model(torch.empty(1, 32, 3, 224, 224)))
    return {"parameters": numel(model), "macs": macs}


def llama_cost():
    cfg = llama.config(
        vocab_size=32_064, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
    )
    model = llama.build(cfg)
    # Without the embedding table, of which only one row is read.
    products = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return {"parameters": numel(model), "macs": sum(count(lambda: m(torch.empty(1, m.in_features))) for m in products)}


def mixer_cost():
    mixer = Mixer([1024, 1024, 768, 768], [256, 256, 196, 196], 16, 64, 4096, query_width=3072)
    features = [torch.empty(1, 16 * s, w) for w, s in zip([1024, 1024, 768, 768], [256, 256, 196, 196])]
    mixer.requires_grad_(False)
    attention = mixer.feature_fusion.attention
    unused = attention.v_proj_weight.numel() + numel(attention.out_proj)
    macs = count(lambda: mixer(features)) - mixer.feature_fusion.unused_macs(4)
    return {"parameters": numel(mixer) - unused, "macs": macs}


def main():
    setup()
    with torch.device("meta"):
        costs = {
            "languagebind-video-noclass": languagebind_cost(),
            "dinov2-video-all-tokens": timm_cost(timm_vit.DINOV2),
            "vivit-google-b-all-no-cls-16frames": vivit_cost(),
            "siglip-vit-b16-224px-all-no-cls": timm_cost(timm_vit.SIGLIP),
            "mixer": mixer_cost(),
            "llama2-7b-pure": llama_cost(),
        }
    write_json(FIXTURES / "costs.json", costs)
    print(costs)


if __name__ == "__main__":
    main()
