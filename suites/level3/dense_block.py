"""Each layer sees what all before it made."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, channels: int, growth: int, layers: int):
        super().__init__()
        sizes = [channels + growth * k for k in range(layers)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in sizes)
        self.convs = nn.ModuleList(nn.Conv2d(n, growth, 3, padding=1) for n in sizes)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.cat((x, conv(torch.relu(norm(x)))), dim=1)
        return x


def get_inputs():
    return [torch.randn(8, 32, 32, 32)]


def get_init_inputs():
    return [32, 16, 4]
