"""Judging as briefly as there may be, for tests in which nothing turns on a time.

As a program it is the command line as it is, but for brief plans and the baselines named first:
`python brief.py eager,compile optimize FILE`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from epitaxy import timing
from epitaxy.machines.local import LocalMachine


def be_brief(put: Callable[[Any, str, Any], None], baselines: Sequence[str] = ("eager",)) -> None:
    """Take few baselines, and no more rounds than a plan may have, in two processes at most.

    `put(owner, name, value)` sets an attribute: `setattr`, or pytest's that is undone.
    """
    plans = {
        name: plan.replace(
            rounds=timing.LEAST_ROUNDS, most=timing.LEAST_ROUNDS, limit_s=1.0,
            processes=min(2, plan.processes),
        )
        for name, plan in timing.PLANS.items()
    }  # fmt: skip
    put(timing, "PLANS", plans)
    put(LocalMachine, "baselines", lambda self: list(baselines))


if __name__ == "__main__":
    from epitaxy.cli import main

    be_brief(setattr, sys.argv[1].split(","))
    sys.exit(main(sys.argv[2:]))
