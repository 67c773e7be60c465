"""Rows looked up in a table."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, words: int, width: int):
        super().__init__()
        self.table = nn.Embedding(words, width)

    def forward(self, tokens):
        return self.table(tokens)


def get_inputs():
    return [torch.randint(0, 20000, (32, 512))]


def get_init_inputs():
    return [20000, 256]
