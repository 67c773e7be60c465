"""Causal attention over the latest positions only."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, window: int):
        super().__init__()
        self.window = window

    def forward(self, q, k, v):
        place = torch.arange(q.shape[-2])
        apart = place[:, None] - place[None, :]
        seen = (apart >= 0) & (apart < self.window)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return torch.where(seen, scores, float("-inf")).softmax(dim=-1) @ v


def get_inputs():
    return [torch.randn(1, 8, 1024, 64), torch.randn(1, 8, 1024, 64), torch.randn(1, 8, 1024, 64)]


def get_init_inputs():
    return [128]
