"""A linear layer in bfloat16 with its activation."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs).to(torch.bfloat16)

    def forward(self, x):
        return nn.functional.gelu(self.linear(x))


def get_inputs():
    return [torch.randn(512, 768).bfloat16()]


def get_init_inputs():
    return [768, 1024]
