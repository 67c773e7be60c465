"""The exponential function of half a million numbers."""

import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x.exp()


def get_inputs():
    return [torch.randn(512, 1024)]


def get_init_inputs():
    return []
