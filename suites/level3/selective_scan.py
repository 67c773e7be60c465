"""A state-space recurrence, step by step."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, width: int, state: int):
        super().__init__()
        self.rate = nn.Parameter(torch.randn(width, state) * 0.1)

    def forward(self, x, step, b, c):
        decay = torch.exp(step[..., None] * -torch.exp(self.rate))
        drive = (step * x)[..., None] * b[:, :, None]
        h, found = torch.zeros_like(drive[:, 0]), []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + drive[:, t]
            found.append((h * c[:, t, None]).sum(-1))
        return torch.stack(found, dim=1)


def get_inputs():
    return [
        torch.randn(4, 32, 256),
        torch.rand(4, 32, 256),
        torch.randn(4, 32, 16),
        torch.randn(4, 32, 16),
    ]


def get_init_inputs():
    return [256, 16]
