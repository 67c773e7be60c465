"""A linear layer added to its input, then layer normalisation."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int, units: int):
        super().__init__()
        self.linear = nn.Linear(width, units)
        self.norm = nn.LayerNorm(units)

    def forward(self, x):
        return self.norm(x + self.linear(x))


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return [1024, 1024]
