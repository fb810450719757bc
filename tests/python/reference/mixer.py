"""MERV's mixer from plain torch modules: a projector per encoder, then the fusion.

Parameters carry the checkpoint's names: `projectors.{i}.projector.projector.*`
and `feature_fusion.{Q,attention.*}`.
"""

import math

import torch
from torch import nn


class LinearHead(nn.Module):
    def __init__(self, width, llm_width):
        super().__init__()
        self.projector = nn.Linear(width, llm_width)

    def forward(self, tokens):
        return self.projector(tokens)


class AveragePool3d(nn.Module):
    """`3davg+linear`: [B, T*S, C] to [B, T*L, D]."""

    def __init__(self, width, llm_width, temporal, spatial, token_length):
        super().__init__()
        self.temporal, self.side = temporal, math.isqrt(spatial)
        pooled = math.isqrt(token_length)
        self.pool = nn.AdaptiveAvgPool3d((temporal, pooled, pooled))
        self.projector = LinearHead(width, llm_width)

    def forward(self, features):
        grid = features.unflatten(1, (self.temporal, self.side, self.side))
        pooled = self.pool(grid.permute(0, 4, 1, 2, 3))
        return self.projector(pooled.flatten(2).transpose(1, 2))


class CrossAttentionFusion(nn.Module):
    """`cross_attention_avg_lq`: weights over the encoders, and the weighted sum."""

    def __init__(self, query_width, llm_width):
        super().__init__()
        # At equal widths PyTorch would store one `in_proj_weight` instead of three.
        assert query_width != llm_width
        self.Q = nn.Parameter(torch.empty(1, query_width))
        self.attention = nn.MultiheadAttention(
            query_width, num_heads=1, kdim=llm_width, vdim=llm_width, batch_first=True
        )

    def forward(self, projected):
        stacked = torch.stack(projected, 1)
        keys = stacked.mean(2)
        query = self.Q.expand(len(keys), 1, -1)
        _, weights = self.attention(query, keys, keys)
        weights = weights[:, 0]
        return torch.einsum("be,beld->bld", weights, stacked), weights


class Mixer(nn.Module):
    def __init__(self, widths, spatial, temporal, token_length, llm_width, query_width):
        super().__init__()
        self.projectors = nn.ModuleList(
            AveragePool3d(width, llm_width, temporal, tokens, token_length)
            for width, tokens in zip(widths, spatial)
        )
        self.feature_fusion = CrossAttentionFusion(query_width, llm_width)

    def forward(self, features):
        """List of [B, T*S_i, C_i] to (list of [B, T*L, D], fused [B, T*L, D], weights [B, E])."""
        projected = [projector(feature) for projector, feature in zip(self.projectors, features)]
        fused, weights = self.feature_fusion(projected)
        return projected, fused, weights
