"""A transposed convolution that doubles a volume."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.ConvTranspose3d(channels, filters, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        return self.conv(x)


def get_inputs():
    return [torch.randn(2, 32, 8, 16, 16)]


def get_init_inputs():
    return [32, 32]
