"""Causal attention whose scores fall off with distance, faster in some heads than in others."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, heads: int):
        super().__init__()
        slopes = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
        self.register_buffer("slopes", slopes.view(heads, 1, 1))

    def forward(self, q, k, v):
        place = torch.arange(q.shape[-2])
        apart = place[None, :] - place[:, None]
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + self.slopes * apart
        return scores.masked_fill(apart > 0, float("-inf")).softmax(dim=-1) @ v


def get_inputs():
    return [torch.randn(2, 8, 320, 64), torch.randn(2, 8, 320, 64), torch.randn(2, 8, 320, 64)]


def get_init_inputs():
    return [8]
