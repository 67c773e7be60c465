"""Row vectors scaled and summed: a vector times a matrix."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, v, a):
        return v @ a


def get_inputs():
    return [torch.randn(4096), torch.randn(4096, 4096)]


def get_init_inputs():
    return []
