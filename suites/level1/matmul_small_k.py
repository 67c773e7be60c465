"""A product with a short contracted axis and a large result."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(4096, 32), torch.randn(32, 4096)]


def get_init_inputs():
    return []
