"""A four-dimensional tensor contracted with a matrix."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return torch.einsum("bijl,lk->bijk", a, b)


def get_inputs():
    return [torch.randn(4, 32, 64, 256), torch.randn(256, 192)]


def get_init_inputs():
    return []
