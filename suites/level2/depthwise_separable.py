"""A filter for each channel, then a mixing of channels."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.each = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.mix = nn.Conv2d(channels, filters, 1)

    def forward(self, x):
        return torch.relu(self.mix(torch.relu(self.each(x))))


def get_inputs():
    return [torch.randn(8, 64, 56, 56)]


def get_init_inputs():
    return [64, 128]
