"""A batch of matrices times one matrix."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(16, 256, 512), torch.randn(512, 256)]


def get_init_inputs():
    return []
