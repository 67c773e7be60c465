"""Sum over the middle axis."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return x.sum(dim=1, keepdim=True)


def get_inputs():
    return [torch.randn(32, 512, 512)]


def get_init_inputs():
    return []
