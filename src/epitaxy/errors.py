"""Every error that Epitaxy raises on purpose.

    EpitaxyError                 what happened, and .mend: what to do about it
    ├── BadInput                 the user's file, name, option or value is wrong      (exit 2)
    │   ├── BadProblem           a problem cannot be judged
    │   ├── BadCandidate         a candidate contradicts itself or its problem
    │   └── UnknownName          no chip, toolchain, proposer ... of that name
    ├── BadEnvironment           the machine lacks something that the job needs       (exit 2)
    │   ├── NoCompiler           no usable C++ compiler
    │   ├── NoSandbox            nothing here can confine a candidate
    │   └── LedgerError          the ledger cannot be read or written
    ├── MachineFault             a machine failed while judging; never a candidate's fault
    ├── Cancelled                somebody ended the work; nothing is known of its outcome
    └── PluginError              a plugin is missing, clashes or breaks its contract

A candidate that fails to build, crashes or is wrong raises nothing: that is a Verdict.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BadCandidate",
    "BadEnvironment",
    "BadInput",
    "BadProblem",
    "Cancelled",
    "EpitaxyError",
    "LedgerError",
    "MachineFault",
    "NoCompiler",
    "NoSandbox",
    "PluginError",
    "UnknownName",
]


SHOWN = 16
"""Names listed when none is near: an error stays one readable line."""


class EpitaxyError(Exception):
    """What happened (the message) and what to do about it (`mend`)."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message} ({self.mend})"

    def __reduce__(self) -> tuple[type[EpitaxyError], tuple[str, str]]:
        return type(self), (self.message, self.mend)


class BadInput(EpitaxyError):
    """The user's file, name, option or value is wrong."""


class BadProblem(BadInput):
    """A problem cannot be loaded or cannot be judged."""


class BadCandidate(BadInput):
    """A candidate contradicts itself or its problem."""


class UnknownName(BadInput):
    """No chip, toolchain, proposer ... of that name; the mend names the nearest."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message, mend)

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for `name`, with the nearest of `known` as its mend."""
        names = sorted(known)
        near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
        nearest = next((n for n in names if near and n.lower() == near[0]), None)
        rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        known_names = ", ".join(names[:SHOWN]) + rest if names else "none"
        mend = f"did you mean {nearest!r}?" if nearest else f"known: {known_names}"
        return cls(f"unknown {kind} {name!r}", mend)


class BadEnvironment(EpitaxyError):
    """The machine lacks something that the job needs."""


class NoCompiler(BadEnvironment):
    """No usable C++ compiler."""


class NoSandbox(BadEnvironment):
    """Nothing on this machine can confine a candidate."""


class LedgerError(BadEnvironment):
    """The ledger cannot be read or written."""


class MachineFault(EpitaxyError):
    """A machine failed while judging; never charged to a candidate."""


class Cancelled(EpitaxyError):
    """Somebody ended the work before it was done; nothing is known of its outcome."""


class PluginError(EpitaxyError):
    """A plugin is missing, clashes with another or breaks its contract."""
