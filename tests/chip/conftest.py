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
    name = torch.cuda.get_device_name()
    words = set(name.replace("-", " ").split())
    found = [c for c in load_all() if c.kind == "gpu" and words & {a.upper() for a in c.aliases}]
    if not found:
        pytest.skip(f"{name} is none of the chips that `epitaxy chips` lists")
    return torch.device("cuda"), found[0]
