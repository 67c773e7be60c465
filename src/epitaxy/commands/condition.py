"""Under what condition times are taken: options shared by the commands that measure."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from epitaxy.errors import BadInput, UnknownName
from epitaxy.verdict import CONDITIONS

Condition = Annotated[
    str, typer.Option("--condition", help="What calls find in the caches: warm or cold.")
]
Threads = Annotated[
    int, typer.Option("--threads", help="Threads of a kernel and of the baselines; 0: one a core.")
]


def apply(machine: Any, condition: str, threads: int) -> Any:
    """`machine`, timing under that condition with that many threads.

    Raises UnknownName and BadInput, also where the machine has no such choice.
    """
    if condition not in CONDITIONS:
        raise UnknownName.of("condition", condition, list(CONDITIONS))
    cores = len(os.sched_getaffinity(0))
    if not 0 <= threads <= cores:
        raise BadInput(f"{threads} threads on {cores} cores", f"give 1 to {cores}, or 0 for all")
    for name, value, usual in (("condition", condition, "warm"), ("threads", threads, 0)):
        if hasattr(machine, name):
            setattr(machine, name, value)
        elif value != usual:
            raise BadInput(f"the machine {machine.name} has no {name}", f"drop --{name}")
    return machine
