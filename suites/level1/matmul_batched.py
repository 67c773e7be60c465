"""A product of many pairs."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return torch.bmm(a, b)


def get_inputs():
    return [torch.randn(32, 128, 256), torch.randn(32, 256, 512)]


def get_init_inputs():
    return []
