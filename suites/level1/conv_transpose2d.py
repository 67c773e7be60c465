"""A transposed convolution that doubles the image."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, filters, 4, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(4, 64, 28, 28)]


def get_init_inputs():
    return [64, 32]
