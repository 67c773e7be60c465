"""Means of embeddings over bags of unequal length, then a layer norm."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, words: int, width: int):
        super().__init__()
        self.table = nn.EmbeddingBag(words, width, mode="mean")
        self.norm = nn.LayerNorm(width)

    def forward(self, words, starts):
        return self.norm(self.table(words, starts))


def get_inputs():
    starts = torch.sort(torch.randint(0, 16384, (512,))).values
    starts[0] = 0
    return [torch.randint(0, 8000, (16384,)), starts]


def get_init_inputs():
    return [8000, 128]
