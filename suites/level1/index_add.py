"""Messages along the edges of a graph, added up at the nodes they reach."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, nodes, edge_from, edge_to, weight):
        messages = nodes[edge_from] * weight[:, None]
        return torch.zeros_like(nodes).index_add(0, edge_to, messages)


def get_inputs():
    edges = [torch.randint(0, 2048, (16384,)) for _ in range(2)]
    return [torch.randn(2048, 64), *edges, torch.rand(16384)]


def get_init_inputs():
    return []
