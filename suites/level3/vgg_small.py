"""A plain convolutional network."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after in (32, 64, 128):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before = after
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(128 * 8 * 8, 256), nn.ReLU(), nn.Linear(256, classes))

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def get_inputs():
    return [torch.randn(8, 3, 64, 64)]


def get_init_inputs():
    return [10]
