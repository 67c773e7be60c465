"""Max pooling of volumes."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def forward(self, x):
        return F.max_pool3d(x, kernel_size=2, stride=2)


def get_inputs():
    return [torch.randn(4, 16, 32, 64, 64)]


def get_init_inputs():
    return []
