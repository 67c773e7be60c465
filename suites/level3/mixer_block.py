"""Perceptrons over places, then over channels."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.places = nn.Sequential(nn.Linear(196, 256), nn.GELU(), nn.Linear(256, 196))
        self.channels = nn.Sequential(nn.Linear(width, 2048), nn.GELU(), nn.Linear(2048, width))

    def forward(self, x):
        y = self.norm1(x).transpose(1, 2)
        x = x + self.places(y).transpose(1, 2)
        return x + self.channels(self.norm2(x))


def get_inputs():
    return [torch.randn(8, 196, 512)]


def get_init_inputs():
    return [512]
