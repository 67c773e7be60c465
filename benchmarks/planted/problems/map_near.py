"""A polynomial of 64 thousand numbers: everything stays in the nearest caches."""

import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return ((x * 0.3 + 0.7) * x + 0.2) * x + 0.1


def get_inputs():
    return [torch.randn(128, 512)]


def get_init_inputs():
    return []
