"""A polynomial of degree 13 below the diagonal, zero above."""

import torch


class Model(torch.nn.Module):
    def forward(self, x):
        v = x
        for c in (0.7, 0.2, 0.1, 0.5, 0.4, 0.3, 0.6, 0.8, 0.15, 0.25, 0.35, 0.45):
            v = v * x + c
        return torch.tril(v)


def get_inputs():
    return [torch.rand(1024, 1024)]


def get_init_inputs():
    return []
