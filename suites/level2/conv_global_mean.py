"""A convolution averaged over the image."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1)

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))


def get_inputs():
    return [torch.randn(8, 32, 56, 56)]


def get_init_inputs():
    return [32, 64]
