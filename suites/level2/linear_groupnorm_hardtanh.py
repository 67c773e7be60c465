"""A linear layer, group normalisation, a clamp."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, width: int, units: int, groups: int):
        super().__init__()
        self.linear = nn.Linear(width, units)
        self.norm = nn.GroupNorm(groups, units)

    def forward(self, x):
        return F.hardtanh(self.norm(self.linear(x)), -2.0, 2.0)


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return [1024, 1024, 16]
