"""The product of a 192 x 192 matrix with itself."""

import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x @ x


def get_inputs():
    return [torch.randn(192, 192)]


def get_init_inputs():
    return []
