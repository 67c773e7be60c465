"""A gated linear recurrence over time: h = f h + (1 - f) x, read through an output gate."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x, forget, gate):
        h, found = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            f = torch.sigmoid(forget[:, t])
            h = f * h + (1 - f) * x[:, t]
            found.append(torch.tanh(h))
        return torch.stack(found, dim=1) * torch.sigmoid(gate)


def get_inputs():
    return [torch.randn(8, 64, 512), torch.randn(8, 64, 512), torch.randn(8, 64, 512)]


def get_init_inputs():
    return []
