"""SwiGLU's gate on the halves of one projection."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def forward(self, x):
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up


def get_inputs():
    return [torch.randn(4096, 22016).bfloat16()]


def get_init_inputs():
    return []
