"""Epitaxy: software grown to fit the crystal it runs on.

    study = epitaxy.create_study("model.py", budget="2m")
    study.optimize()
    candidate, verdict = study.best

Everything public is listed in `__all__` and imported only when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Budget": "study", "Candidate": "candidate", "Chip": "chip", "Comparison": "verdict",
    "Finding": "verdict", "Floor": "verdict", "Judge": "judge", "Ledger": "ledger",
    "Policy": "problem", "Problem": "problem", "Study": "study", "TensorSpec": "problem",
    "Verdict": "verdict", "Work": "problem", "create_study": "study", "load": "product",
    "optimize": "optimized",
    "BadCandidate": "errors", "BadEnvironment": "errors", "BadInput": "errors",
    "BadProblem": "errors", "Cancelled": "errors", "EpitaxyError": "errors",
    "LedgerError": "errors", "MachineFault": "errors", "NoCompiler": "errors",
    "NoSandbox": "errors", "PluginError": "errors", "UnknownName": "errors",
}  # fmt: skip

__all__ = ["chip", "judge", "load_problem", "machine", "problem", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"epitaxy.{_HOMES[name]}"), name)
    if name in ("chip", "judge", "machine", "problem"):
        return importlib.import_module(f"epitaxy.{name}")
    raise AttributeError(f"module 'epitaxy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_problem(target: Any) -> Any:
    """A Problem from a file, `package.module:Class` or a decorated function."""
    return importlib.import_module("epitaxy.problem").load(target)
