"""A convolution, group normalisation, a pool."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1)
        self.norm = nn.GroupNorm(8, filters)

    def forward(self, x):
        return F.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)


def get_inputs():
    return [torch.randn(8, 16, 56, 56)]


def get_init_inputs():
    return [16, 64]
