"""Parameters other than the ones that a constructor draws.

Judged under those, a candidate could have used its own constructor's, or left out a scale of ones
and a bias of zeros, and be right; loaded with a user's weights it would be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

STIR = 0.125
"""Size of the change, as a part of each value, or of the tensor's root mean square."""
_STATISTICS = ("running_mean", "running_var")


def stirred(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """New values by name, for every parameter of floats and for running statistics.

    What is nowhere negative stays so, what is all ones is spread around one, and zeros become
    small numbers of both signs. Other buffers (masks, tables) stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    state: Mapping[str, torch.Tensor] = module.state_dict()
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {
        name: _stirred(value, generator)
        for name, value in state.items()
        if value.is_floating_point()
        and value.numel()
        and (name in parameters or name.rpartition(".")[2] in _STATISTICS)
    }


def _stirred(value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(value.shape, generator=generator).clamp_(-3, 3) * STIR
    wide = value.detach().to(torch.float32)
    if bool((wide >= 0).all()) and bool((wide > 0).any()):
        return (wide * (1 + noise)).to(value.dtype)
    size = wide.square().mean().sqrt().item() or 1.0
    return (wide + noise * size).to(value.dtype)
