"""A linear layer, batch normalisation, gelu."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, width: int, units: int):
        super().__init__()
        self.linear = nn.Linear(width, units)
        self.norm = nn.BatchNorm1d(units)
        self.norm.running_mean.normal_()

    def forward(self, x):
        return F.gelu(self.norm(self.linear(x)))


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return [1024, 1024]
