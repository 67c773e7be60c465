"""Causal attention in which several heads share keys and values."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def get_inputs():
    return [torch.randn(2, 12, 384, 64), torch.randn(2, 4, 384, 64), torch.randn(2, 4, 384, 64)]


def get_init_inputs():
    return []
