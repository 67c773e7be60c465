"""A plain recurrent layer read in both directions, and what it ends with."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.cell = nn.RNN(width, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 10)

    def forward(self, x):
        y, _ = self.cell(x)
        return self.head(y.mean(1))


def get_inputs():
    return [torch.randn(16, 48, 128)]


def get_init_inputs():
    return [128, 192]
