"""A product with a long contracted axis and a small result."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(128, 32768), torch.randn(32768, 128)]


def get_init_inputs():
    return []
