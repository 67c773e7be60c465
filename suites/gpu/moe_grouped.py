"""A mixture of gated experts, two for each row: grouped products over ragged batches.

The router's scores come in float32: of bfloat16 rows, rounding would send some to other experts,
and no output could be held against another.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, width: int, hidden: int, experts: int):
        super().__init__()
        kind = {"bias": False, "dtype": torch.bfloat16}
        self.experts = experts
        self.gate = nn.ModuleList(nn.Linear(width, hidden, **kind) for _ in range(experts))
        self.up = nn.ModuleList(nn.Linear(width, hidden, **kind) for _ in range(experts))
        self.down = nn.ModuleList(nn.Linear(hidden, width, **kind) for _ in range(experts))

    def forward(self, x, scores):
        weights, chosen = torch.topk(F.softmax(scores, dim=-1), 2, dim=-1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
        out = torch.zeros_like(x)
        mask = F.one_hot(chosen, num_classes=self.experts).permute(2, 1, 0)
        for e in range(self.experts):
            k, row = torch.where(mask[e])
            seen = x[row]
            made = self.down[e](F.silu(self.gate[e](seen)) * self.up[e](seen))
            out.index_add_(0, row, made * weights[row, k, None])
        return out


def get_inputs():
    return [torch.randn(4096, 1024).bfloat16(), torch.randn(4096, 8)]


def get_init_inputs():
    return [1024, 2048, 8]
