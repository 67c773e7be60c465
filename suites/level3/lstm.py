"""A recurrent layer over a sequence."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.cell = nn.LSTM(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x):
        y, _ = self.cell(x)
        return self.head(y[:, -1])


def get_inputs():
    return [torch.randn(16, 64, 128)]


def get_init_inputs():
    return [128, 256]
