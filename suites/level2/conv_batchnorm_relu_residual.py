"""A convolution, batch normalisation, a residual."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1)
        self.norm = nn.BatchNorm2d(filters)
        self.norm.running_mean.normal_(0.0, 0.1)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


def get_inputs():
    return [torch.randn(8, 64, 56, 56)]


def get_init_inputs():
    return [64, 64]
