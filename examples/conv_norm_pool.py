"""A convolution, then batch normalisation, ReLU and pooling."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        return self.pool(torch.relu(self.norm(self.conv(x))))


def get_inputs():
    return [torch.randn(16, 16, 64, 64)]


def get_init_inputs():
    return [16, 32]
