"""A linear layer whose gated row sums are returned."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int, units: int):
        super().__init__()
        self.linear = nn.Linear(width, units)

    def forward(self, x):
        return torch.sigmoid(self.linear(x)).sum(dim=1, keepdim=True)


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return [1024, 1024]
