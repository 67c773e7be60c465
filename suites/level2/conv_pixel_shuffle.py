"""A convolution whose channels become pixels: twice the image."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * filters, 3, padding=1)

    def forward(self, x):
        return torch.relu(F.pixel_shuffle(self.conv(x), 2))


def get_inputs():
    return [torch.randn(4, 32, 56, 56)]


def get_init_inputs():
    return [32, 16]
