"""Group normalisation followed by swish."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        nn.init.normal_(self.norm.weight, 1.0, 0.1)
        nn.init.normal_(self.norm.bias, 0.0, 0.1)

    def forward(self, x):
        x = self.norm(x)
        return x * torch.sigmoid(x)


def get_inputs():
    return [torch.randn(16, 64, 96, 96)]


def get_init_inputs():
    return [64, 8]
