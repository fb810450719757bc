"""MERV's mixer from plain torch modules and timm's: a projector per encoder, then the fusion.

Parameters carry the checkpoint's names: `projectors.{i}.projector.projector.*`
and `feature_fusion.{Q,attention.*}`.
"""

import math
from functools import partial

import torch
from timm.layers import LayerNorm2d, trunc_normal_
from timm.models.regnet import RegStage
from torch import nn

HEADS = 8  # of `attntv`


class Head(nn.Module):
    """`linear`, `gelu-mlp` and `fused-gelu-mlp`."""

    def __init__(self, mlp, width, llm_width):
        super().__init__()
        hidden = {"linear": [], "gelu-mlp": [llm_width], "fused-gelu-mlp": [4 * width, llm_width]}[mlp]
        layers, inputs = [], width
        for outputs in [*hidden, llm_width]:
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
            inputs = outputs
        layers.pop()
        self.projector = layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def forward(self, tokens):
        return self.projector(tokens)


def head(mlp, width, llm_width):
    return nn.Identity() if mlp == "none" else Head(mlp, width, llm_width)


def as_grid(steps):
    """[B, T, S, C] to [B, C, T, H, W], with a grid as square as S allows."""
    rows = math.isqrt(steps.shape[2])
    return steps.unflatten(2, (rows, steps.shape[2] // rows)).permute(0, 4, 1, 2, 3)


def as_tokens(grid):
    """[B, C, T, H, W] to [B, T*H*W, C]"""
    return grid.flatten(2).transpose(1, 2)


def per_step(module, grid):
    """A module on images, for every time step of [B, C, T, H, W]."""
    batch = len(grid)
    images = module(grid.transpose(1, 2).flatten(0, 1))
    return images.unflatten(0, (batch, -1)).transpose(1, 2)


class AveragePool2d(nn.Module):
    """`avg`"""

    def __init__(self, width, llm_width, steps, tokens, mlp):
        super().__init__()
        side = math.isqrt(tokens)
        self.pool = nn.AdaptiveAvgPool2d((side, side))
        self.projector = head(mlp, width, llm_width)

    def forward(self, steps):
        return self.projector(as_tokens(per_step(self.pool, as_grid(steps))))


class AveragePool3d(nn.Module):
    """`3davg`"""

    def __init__(self, width, llm_width, steps, tokens, mlp):
        super().__init__()
        side = math.isqrt(tokens)
        self.pool = nn.AdaptiveAvgPool3d((steps, side, side))
        self.projector = head(mlp, width, llm_width)

    def forward(self, steps):
        return self.projector(as_tokens(self.pool(as_grid(steps))))


class ConvPool(nn.Module):
    """`conv`"""

    def __init__(self, width, llm_width, steps, tokens, mlp):
        super().__init__()
        side = math.isqrt(tokens)
        stage = partial(RegStage, 3, out_chs=llm_width, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d)
        self.convolution_pooling = nn.Sequential(
            stage(width), nn.AdaptiveAvgPool2d((side, side)), stage(llm_width)
        )
        self.projector = head(mlp, llm_width, llm_width)

    def forward(self, steps):
        return self.projector(as_tokens(per_step(self.convolution_pooling, as_grid(steps))))


class Conv3dPool(nn.Module):
    """`3dconv`"""

    def __init__(self, width, llm_width, steps, tokens, mlp):
        super().__init__()
        side = math.isqrt(tokens)
        self.convolution_pooling = nn.Sequential(
            nn.Conv3d(width, llm_width, 3, padding=1), nn.AdaptiveAvgPool3d((steps, side, side))
        )
        self.projector = head(mlp, llm_width, llm_width)

    def forward(self, steps):
        return self.projector(as_tokens(self.convolution_pooling(as_grid(steps))))


class CrossAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, queries, context):
        heads = lambda x: x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        q, (k, v) = heads(self.q(queries)), map(heads, self.kv(context).chunk(2, -1))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class CrossAttentionBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.xattn = CrossAttention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.fc1 = nn.Linear(width, 4 * width)
        self.mlp.act = nn.GELU()
        self.mlp.fc2 = nn.Linear(4 * width, width)

    def forward(self, queries, context):
        queries = queries + self.xattn(queries, self.norm1(context))
        return queries + self.mlp(self.norm2(queries))


class AttentivePool(nn.Module):
    """`attntv`: initialised like V-JEPA's pooler, with the head among its linear layers."""

    def __init__(self, width, llm_width, steps, tokens, mlp):
        super().__init__()
        self.query_tokens = nn.Parameter(trunc_normal_(torch.empty(1, tokens, width), std=0.02))
        self.cross_attn = CrossAttentionBlock(width)
        self.projector = head(mlp, width, llm_width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.cross_attn.xattn.proj.weight /= math.sqrt(2)
            self.cross_attn.mlp.fc2.weight /= math.sqrt(2)

    def forward(self, steps):
        images = steps.flatten(0, 1)
        queries = self.cross_attn(self.query_tokens.expand(len(images), -1, -1), images)
        return self.projector(queries).unflatten(0, steps.shape[:2]).flatten(1, 2)


POOLS = {
    "avg": AveragePool2d, "attntv": AttentivePool, "conv": ConvPool, "3davg": AveragePool3d, "3dconv": Conv3dPool,
}


def weighted_sum(stacked, weights):
    """[B, E, L, D] and [B, E] to [B, L, D]"""
    return torch.bmm(weights[:, None], stacked.flatten(2)).view_as(stacked[:, 0])


class CrossAttentionFusion(nn.Module):
    """`cross_attention_avg_lq`: weights over the encoders, and the weighted sum."""

    def __init__(self, query_width, llm_width, tokens):
        super().__init__()
        self.tokens = tokens
        self.Q = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, query_width)))
        # At equal widths PyTorch stores one `in_proj_weight` instead of three.
        self.attention = nn.MultiheadAttention(
            query_width, num_heads=1, kdim=llm_width, vdim=llm_width, batch_first=True
        )

    def forward(self, projected):
        stacked = torch.stack([x.expand(-1, self.tokens, -1) for x in projected], 1)
        keys = stacked.mean(2)
        query = self.Q.expand(len(keys), 1, -1)
        _, weights = self.attention(query, keys, keys)
        weights = weights[:, 0]
        return weighted_sum(stacked, weights), weights

    def unused_macs(self, encoders):
        """The parameters of the attention's values and output, which are not used."""
        query, keys = self.Q.shape[1], self.attention.kdim
        return encoders * keys * query + encoders * query + query * query


class ScalarFusion(nn.Module):
    """`scalar`, for any number of encoders."""

    def __init__(self, encoders):
        super().__init__()
        self.scalar = nn.Parameter(torch.randn(encoders))

    def forward(self, projected):
        weights = self.scalar.softmax(0).expand(len(projected[0]), -1)
        return weighted_sum(torch.stack(projected, 1), weights), weights


class ConcatChannel(Head):
    """`concat_channel`"""

    def __init__(self, encoders, llm_width):
        super().__init__("linear", encoders * llm_width, llm_width)


def fusion(name, encoders, llm_width, query_width, tokens):
    if name == "cross_attention_avg_lq":
        return CrossAttentionFusion(query_width, llm_width, tokens)
    if name == "scalar":
        return ScalarFusion(encoders)
    if name == "concat_channel":
        return ConcatChannel(encoders, llm_width)
    if name == "concat_channel_ln":
        return nn.Sequential(nn.LayerNorm(encoders * llm_width), ConcatChannel(encoders, llm_width))
    return None


class Mixer(nn.Module):
    """temporal, spatial: of each encoder, or the same for all."""

    def __init__(
        self, widths, spatial, temporal, token_length, llm_width, query_width=None,
        projector="3davg+linear", fusion_name="cross_attention_avg_lq", visual_feature_length=None,
    ):
        super().__init__()
        *parts, mlp = projector.split("+")
        divisor = next((int(part[5:]) for part in parts if part.startswith("frame")), 1)
        pool = next((POOLS[part] for part in parts if part in POOLS), None)
        self.temporal = temporal if isinstance(temporal, list) else [temporal] * len(widths)
        self.pooled, self.fusion_name = pool is not None, fusion_name
        self.projectors = nn.ModuleList(
            pool(width, llm_width, steps // divisor, token_length, mlp) if pool else head(mlp, width, llm_width)
            for width, steps in zip(widths, self.temporal)
        )
        tokens = visual_feature_length or token_length * (self.temporal[0] // divisor)
        made = fusion(fusion_name, len(widths), llm_width, query_width, tokens)
        if made is not None:
            self.feature_fusion = made

    def project(self, features):
        """List of [B, T*S_i, C_i] to a list of [B, L_i, D]."""
        if self.pooled:
            features = [x.unflatten(1, (steps, -1)) for x, steps in zip(features, self.temporal)]
        return [projector(x) for projector, x in zip(self.projectors, features)]

    def forward(self, features):
        """List of [B, T*S_i, C_i] to (list of [B, L_i, D], fused [B, L, D], weights [B, E] or None)."""
        projected = self.project(features)
        weights = None
        if self.fusion_name in ("none", "first"):
            fused = projected[0]
        elif self.fusion_name == "concat":
            fused = torch.cat(projected, 1)
        elif self.fusion_name.startswith("concat_channel"):
            fused = self.feature_fusion(torch.cat(projected, -1))
        else:
            fused, weights = self.feature_fusion(projected)
        return projected, fused, weights
