"""This machine's processors, also where `local` means its GPU."""

from __future__ import annotations

from epitaxy.machines.local import LocalMachine


class CpuMachine(LocalMachine):
    """The same as `local` where there is no GPU: verdicts of one are verdicts of the other."""

    name = "cpu"


def plugin() -> CpuMachine:
    """The machine named `cpu`."""
    return CpuMachine()
