"""A linear layer and two mish."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, width: int, units: int):
        super().__init__()
        self.linear = nn.Linear(width, units)

    def forward(self, x):
        return F.mish(F.mish(self.linear(x)))


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return [1024, 1024]
