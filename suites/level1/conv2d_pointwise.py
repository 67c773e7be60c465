"""A 1x1 convolution."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 1)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(8, 128, 56, 56)]


def get_init_inputs():
    return [128, 128]
