"""A volume convolution, softmax over channels, pooling."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.conv = nn.Conv3d(channels, filters, 3)

    def forward(self, x):
        return F.max_pool3d(torch.softmax(self.conv(x), dim=1), 2)


def get_inputs():
    return [torch.randn(8, 3, 16, 32, 32)]


def get_init_inputs():
    return [3, 16]
