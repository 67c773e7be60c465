"""Narrow in the middle."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, code: int):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, code))
        self.decode = nn.Sequential(nn.Tanh(), nn.Linear(code, 256), nn.Tanh(), nn.Linear(256, 784))

    def forward(self, x):
        return torch.sigmoid(self.decode(self.encode(x)))


def get_inputs():
    return [torch.randn(512, 784)]


def get_init_inputs():
    return [64]
