"""Hinge loss."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, y):
        return torch.clamp(1 - x * y, min=0).mean()


def get_inputs():
    return [torch.randn(4096, 2048), torch.randint(0, 2, (4096, 1)).float() * 2 - 1]


def get_init_inputs():
    return []
