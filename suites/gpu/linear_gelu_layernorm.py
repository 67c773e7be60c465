"""A linear layer in bfloat16 with bias, GELU, a residual sum and a layer norm."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.linear = nn.Linear(size, size, dtype=torch.bfloat16)
        self.norm = nn.LayerNorm(size, dtype=torch.bfloat16)

    def forward(self, x):
        return self.norm(x + F.gelu(self.linear(x)))


def get_inputs():
    return [torch.randn(8192, 1024).bfloat16()]


def get_init_inputs():
    return [1024]
