"""How the scripts of the comparison end: on this machine, with one line where they cannot work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from epitaxy.errors import EpitaxyError
from epitaxy.plugin import plugins


def on_machine(work: Callable[[Any], None]) -> int:
    """Exit code of `work` with the machine that is here, which is closed after it; 2 after an
    error, told with its mend."""
    machine: Any = None
    try:
        machine = plugins("machines").get("local")
        work(machine)
    except EpitaxyError as error:
        print(f"error: {error.message} — {error.mend}", file=sys.stderr)
        return 2
    finally:
        if machine is not None:
            machine.close()
    return 0
