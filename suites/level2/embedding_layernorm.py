"""Token and position embeddings, normalised."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, words: int, width: int):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Embedding(256, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens):
        return self.norm(self.words(tokens) + self.places.weight)


def get_inputs():
    return [torch.randint(0, 20000, (32, 256))]


def get_init_inputs():
    return [20000, 512]
