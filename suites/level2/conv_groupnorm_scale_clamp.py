"""A convolution, group normalisation, scale, clamp."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1)
        self.norm = nn.GroupNorm(8, filters)
        self.scale = nn.Parameter(torch.ones(filters, 1, 1))

    def forward(self, x):
        return torch.clamp(self.norm(self.conv(x)) * self.scale, 0.0, 1.0)


def get_inputs():
    return [torch.randn(8, 32, 56, 56)]


def get_init_inputs():
    return [32, 64]
