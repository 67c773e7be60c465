"""Two gated recurrent layers over a sequence."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.cells = nn.GRU(width, hidden, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]


def get_inputs():
    return [torch.randn(8, 64, 128)]


def get_init_inputs():
    return [128, 256]
