"""A linear layer whose weights are kept in 8 bits, with a scale for each output."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", torch.rand(outputs) * 0.01 + 0.001)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        weight = self.weight.to(x.dtype) * self.scale.unsqueeze(1)
        return nn.functional.linear(x, weight, self.bias)


def get_inputs():
    return [torch.randn(256, 1024)]


def get_init_inputs():
    return [1024, 1024]
