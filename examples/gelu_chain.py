"""A chain of element-wise operators: bias, tanh-GELU, scale and clamp."""

import math

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, x):
        x = x + self.bias
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
        return torch.clamp(0.5 * x * (1.0 + torch.tanh(inner)) * 1.5, -2.0, 4.0)


def get_inputs():
    return [torch.randn(2048, 4096)]


def get_init_inputs():
    return [4096]
