"""Rotary position embedding."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, angle):
        a, b = x.chunk(2, dim=-1)
        c, s = angle.cos(), angle.sin()
        return torch.cat((a * c - b * s, a * s + b * c), dim=-1)


def get_inputs():
    return [torch.randn(8, 16, 1024, 128), torch.randn(1024, 64)]


def get_init_inputs():
    return []
