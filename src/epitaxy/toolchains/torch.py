"""Candidates in PyTorch: a `model_new.py` that defines ModelNew, run as it is."""

from __future__ import annotations

import ast
import importlib.util
from importlib import metadata
from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.parsing import parsed
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict, canonical, digest_text
from epitaxy.toolchain import Availability, Build
from epitaxy.toolchains._files import written

FILE = "model_new.py"


def plugin() -> Torch:
    """The `torch` toolchain."""
    return Torch()


class Torch:
    """Nothing is compiled: KernelBench's ModelNew files are judged as they stand."""

    name = "torch"
    runs = "torch"
    sources = (FILE,)

    def available(self) -> Availability:
        """Whether PyTorch is installed."""
        if importlib.util.find_spec("torch") is None:
            return Availability(ok=False, detail="no PyTorch", mend="pip install torch")
        return Availability(ok=True, detail=f"PyTorch {metadata.version('torch')}")

    def build(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """The files in `cache/<digest>`; a failed Build when the entry defines no ModelNew.

        Raises BadEnvironment when the cache cannot be written.
        """
        facts = FrozenDict[str](toolchain=self.name, torch=metadata.version("torch"))
        fault = _fault(candidate)
        if fault:
            return Build(ok=False, folder="", log=f"error: {fault}", fingerprint=facts)
        key = canonical({"toolchain": self.name, "of": candidate.digest, "facts": facts})
        folder = written(candidate, Path(cache, digest_text(key)))
        return Build(ok=True, folder=str(folder), fingerprint=facts)

    def inspect(self, build: Build) -> FrozenDict[float]:
        """Nothing: the code that runs is PyTorch's."""
        return FrozenDict()


def _fault(candidate: Candidate) -> str:
    """Why the entry is no ModelNew ("" when it is)."""
    if candidate.entry != FILE:
        return f"the entry is {candidate.entry}, expected {FILE}"
    try:
        tree = parsed(candidate.files.get(FILE, ""))
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"{FILE} is not Python: {error}"
    if not any(isinstance(n, ast.ClassDef) and n.name == "ModelNew" for n in tree.body):
        return f"{FILE} defines no class ModelNew"
    return ""
