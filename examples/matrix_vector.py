"""A matrix times a vector: every element of the matrix is used once."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, x):
        return torch.matmul(a, x)


def get_inputs():
    return [torch.randn(2048, 8192), torch.randn(8192, 1)]


def get_init_inputs():
    return []
