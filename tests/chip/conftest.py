"""What needs a GPU is skipped aloud where there is none."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def gpu():
    """(device, the shipped chip of its name)."""
    import torch

    from epitaxy.chip_facts import load_all

    if not torch.cuda.is_available():
        pytest.skip("no GPU here: nothing of tests/chip was run, and nothing is measured")
    from epitaxy.machine import accelerator
    from epitaxy.machines import _gpu

    if accelerator() is None and not _gpu.here():
        pytest.skip("this GPU is not NVIDIA's: nothing of tests/chip was run")
    name = torch.cuda.get_device_name()
    found = _gpu.named(name, load_all())
    if found is None:
        pytest.skip(f"{name} is none of the chips that `epitaxy chips` lists")
    return torch.device("cuda"), found
