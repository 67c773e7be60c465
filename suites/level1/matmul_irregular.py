"""A product whose sizes are no multiples of anything."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(509, 1021), torch.randn(1021, 747)]


def get_init_inputs():
    return []
