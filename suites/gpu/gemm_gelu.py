"""A linear layer in bfloat16, 4096 in every direction, and GELU."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.linear = nn.Linear(size, size, bias=False, dtype=torch.bfloat16)

    def forward(self, x):
        return F.gelu(self.linear(x))


def get_inputs():
    return [torch.randn(4096, 4096).bfloat16()]


def get_init_inputs():
    return [4096]
