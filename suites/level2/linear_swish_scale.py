"""A linear layer, swish, a factor."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int, units: int):
        super().__init__()
        self.linear = nn.Linear(width, units)

    def forward(self, x):
        y = self.linear(x)
        return y * torch.sigmoid(y) * 2.0


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return [1024, 1024]
