"""A product of bfloat16 matrices with sums in float32, as PyTorch has it."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(1024, 1024).bfloat16(), torch.randn(1024, 1024).bfloat16()]


def get_init_inputs():
    return []
