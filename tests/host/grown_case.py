"""Regions compiled and called as tests need them: alone, or those of many cases in one library."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from epitaxy.compiler import find_compiler, flags
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import emit_source
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.program import Program, RegionCall

SANITIZED = ("-O1", "-g", "-fsanitize=address") if os.environ.get("SANITIZED") else ()
"""`make sanitize`: reads beyond the ends of an array that show in no result."""
WORTH_A_COMPILER = 4
"""Regions for which another compiler reads the headers too."""


def build(regions, choices, folder):
    """Compile the regions; the library."""
    return build_all(regions, Genome(tuple((r.name, choices) for r in regions)), folder)


def build_all(regions, genome, folder):
    """Compile the regions, each under its own decisions, on all processors; their functions."""
    parts = max(1, min(len(os.sched_getaffinity(0)), len(regions) // WORTH_A_COMPILER))
    compiler = find_compiler()
    running = []
    for number in range(parts):
        source, library = folder / f"k{number}.cpp", folder / f"k{number}.so"
        source.write_text(emit_source(regions[number::parts], genome))
        command = [compiler.path, *flags(compiler), *SANITIZED, "-o", library, source]
        running.append((subprocess.Popen(command, stderr=subprocess.PIPE, text=True), source))
    for process, _ in running:
        _, said = process.communicate()
        assert process.returncode == 0, said
    return Libraries([source for _, source in running])


class Libraries:
    """The functions of several libraries, each by its name, and the `sources` they were made of."""

    def __init__(self, sources):
        self.sources = "".join(source.read_text() for source in sources)
        self._parts = [ctypes.CDLL(str(source.with_suffix(".so"))) for source in sources]

    def __getattr__(self, name):
        for part in self._parts:
            if hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(name)


def run(library, region, inputs):
    """What one region computes from contiguous copies of `inputs`."""
    return call(library, region, inputs)[0]


def call(library, region, inputs):
    """Call one region on contiguous copies of `inputs`: its outputs, poisoned beforehand, and not
    zero where it refuses the call."""
    held = [x.contiguous() for x in inputs]
    outs = [
        torch.full(s.shape, 7).to(getattr(torch, s.dtype))
        if not s.dtype.startswith("float")
        else torch.full(s.shape, float("nan"))
        for s in region.outputs
    ]
    pack = lambda ts: (ctypes.c_void_p * len(ts))(*[t.data_ptr() for t in ts])  # noqa: E731
    status = getattr(library, region.name)(pack(held), pack(outs))
    return outs, status if region.refuses else 0


def pair(path):
    """The reference and the kernels' module of a model_new.py, with the same weights."""
    spec = importlib.util.spec_from_file_location("grown_pair", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference, ours = module.Model().eval(), module.ModelNew().eval()
    ours.load_state_dict(reference.state_dict())
    return reference, ours


def oracles(function, inputs):
    """Inputs as they are, and with a NaN among those of the first; each with what `function` makes
    of them in float64."""
    spoiled = inputs[0].clone()
    spoiled.view(-1)[37 % spoiled.numel()] = float("nan")
    for first in (inputs[0], spoiled):
        given = [first, *inputs[1:]]
        yield given, function(*[x.double() for x in given])


def regions_of(program: Program) -> list[Any]:
    """The regions that a program calls, in order."""
    return [s.region for s in program.steps if isinstance(s, RegionCall)]


def renamed(program: Program, prefix: str) -> Program:
    """The program with names of its regions that begin with `prefix`: one library holds several."""
    steps = [
        replace(s, region=replace(s.region, name=f"{prefix}_{s.region.name}"))
        if isinstance(s, RegionCall)
        else s
        for s in program.steps
    ]
    return replace(program, steps=tuple(steps))


class Together:
    """Cases captured one by one and compiled at once, which spares the headers of each.

    `programs` are the captured ones by case and number of decisions: "softmax", 0.
    """

    def __init__(self) -> None:
        self.programs: dict[tuple[str, int], Program] = {}
        self._decisions: list[tuple[str, Choices]] = []
        self._library: Any = None

    def add(self, name: str, function: Any, inputs: Sequence[Any], *choices: Choices) -> None:
        """Capture a case to be written under each of these decisions. All of it must be grown."""
        program = capture(function, inputs, accept=writable)
        assert all(isinstance(s, RegionCall) for s in program.steps), "all here can be grown"
        for number, each in enumerate(choices):
            self.programs[name, number] = renamed(program, f"case{len(self.programs)}")
            self._decisions += [(r.name, each) for r in self.regions(name, number)]

    def regions(self, name: str, number: int = 0) -> list[Any]:
        """The regions of a case."""
        return regions_of(self.programs[name, number])

    def build(self, folder: Path) -> Together:
        """Compile all that was added."""
        regions = [r for key in self.programs for r in self.regions(*key)]
        self._library = build_all(regions, Genome(tuple(self._decisions)), folder)
        return self

    def outputs(
        self, name: str, number: int, inputs: Sequence[Any], state: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """What the case computes under its decisions of that number."""
        return self.called(name, number, inputs, state)[0]

    def called(
        self, name: str, number: int, inputs: Sequence[Any], state: Mapping[str, Any] | None = None
    ) -> tuple[list[Any], int]:
        """The same, and not zero where a region refused the call."""
        program = self.programs[name, number]
        values = dict(zip(program.inputs, inputs, strict=True))
        values |= {value: (state or {})[key] for value, key in program.state}
        for step in program.steps:
            assert isinstance(step, RegionCall)
            made, status = call(self._library, step.region, [values[a] for a in step.args])
            if status:
                return [], status
            values.update(zip(step.results, made, strict=True))
        return [values[o] for o in program.outputs], 0
