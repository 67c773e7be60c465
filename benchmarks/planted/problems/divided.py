"""Half a million continued fractions."""

import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return 1.0 / (1.5 + x / (2.5 + x / (3.5 + x / (4.5 + x / (5.5 + x / (6.5 + x))))))


def get_inputs():
    return [torch.rand(512, 1024)]


def get_init_inputs():
    return []
