"""What several tests of the judge on this machine share."""

from __future__ import annotations

import contextlib

import pytest

from epitaxy.chip import Chip, Level
from epitaxy.machines.local import LocalMachine

GENEROUS = Chip(
    id="c", name="c", vendor="v", kind="cpu", measured=True,
    peak_flops_per_s={"float32": 1e12},
    levels=(Level(name="DRAM", bytes=0, read_bytes_per_s=1e12, write_bytes_per_s=1e12),),
)  # fmt: skip
"""Peaks that nothing here reaches: no probing, and no time below the floor."""


@pytest.fixture(scope="session")
def machine_of(tmp_path_factory):
    """A context that makes a local machine with the GENEROUS chip, by its number of threads."""

    @contextlib.contextmanager
    def made(threads: int = 0):
        machine = LocalMachine(home=tmp_path_factory.mktemp("home"), threads=threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "chip", lambda: GENEROUS)
            yield machine
        machine.close()

    return made
