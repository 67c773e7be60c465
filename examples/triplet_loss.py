"""Triplet margin loss over a batch of embeddings."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, margin: float):
        super().__init__()
        self.loss = nn.TripletMarginLoss(margin=margin)

    def forward(self, anchor, positive, negative):
        return self.loss(anchor, positive, negative)


def get_inputs():
    return [torch.randn(2048, 1024) for _ in range(3)]


def get_init_inputs():
    return [1.0]
