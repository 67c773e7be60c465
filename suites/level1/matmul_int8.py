"""A product of small integers, exact in 32 bits."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, a, b):
        return torch._int_mm(a, b)


def get_inputs():
    a = torch.randint(-128, 128, (512, 1024), dtype=torch.int8)
    b = torch.randint(-128, 128, (1024, 512), dtype=torch.int8)
    return [a, b]


def get_init_inputs():
    return []
