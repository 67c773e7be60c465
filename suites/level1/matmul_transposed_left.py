"""The left operand is stored by columns."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return a.T @ b


def get_inputs():
    return [torch.randn(1024, 768), torch.randn(1024, 896)]


def get_init_inputs():
    return []
