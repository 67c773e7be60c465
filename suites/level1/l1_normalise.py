"""Rows divided by their mean magnitude."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return x / x.abs().mean(dim=1, keepdim=True)


def get_inputs():
    return [torch.randn(4096, 2048)]


def get_init_inputs():
    return []
