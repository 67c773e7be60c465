"""The hot loop for reading: each instruction with its marks and the source line it came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadCandidate, BadEnvironment, UnknownName
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.profiling.instructions import Instruction
from epitaxy.profiling.loops import Loop, hot_loop, loops
from epitaxy.profiling.static import MATH, figures
from epitaxy.record import FrozenDict, Record, record
from epitaxy.toolchain import Build, Variant, Workbench

DEBUG = Variant("debug", ("-g",))
"""The same code with source lines: -g changes none of gcc's or clang's instructions."""


@record
class MarkedLine(Record):
    """One instruction: `address` in the library, `source` as `kernel.cpp:12` ("" unknown)."""

    address: int
    text: str
    source: str
    marks: tuple[str, ...]


@record
class LoopView(Record):
    """A loop to read. `why` says how it was found; `code` holds the source lines it came from."""

    function: str
    why: str
    source: str
    summary: str
    figures: FrozenDict[float]
    lines: tuple[MarkedLine, ...]
    code: FrozenDict[str] = FrozenDict()
    others: tuple[str, ...] = ()


def marks(i: Instruction, loop: Loop) -> tuple[str, ...]:
    """What a reader should notice of an instruction."""
    found: list[str] = []
    if i.arithmetic or i.packed:
        found.append(f"{i.bits} bits" if i.packed else "scalar")
    if i.on_stack(loop.frame):
        found.append("spill" if i.stores else "reload")
    elif i.memory is not None and i.memory.base == "%rip":
        found.append("constant")
    elif i.memory is not None:
        stride = loop.stride(i)
        far = f" stride {stride}" if stride is not None else ""
        kind = "load+store" if i.loads and i.stores else "store" if i.stores else "load"
        found.append(kind + far)
    tests = (
        (i.fma, "FMA"), (i.divides, "divide"), (i.streams, "streaming"), (i.locked, "atomic"),
        (i.name.startswith("vgather"), "gather"), (i.converts, "converts"),
        (i.jumps, "branch"), (bool(i.calls), "call"), (bool(MATH.match(i.calls)), "math"),
    )  # fmt: skip
    return (*found, *(text for true, text in tests if true))


def summary(loop: Loop, found: FrozenDict[float] | dict[str, float]) -> str:
    """The loop in one sentence."""
    count = {k: int(v) for k, v in found.items() if float(v).is_integer()}
    parts = [
        f"{count['instructions']} instructions",
        f"{count['loads']} loads ({count['load_bytes']} B)",
        f"{count['stores']} stores ({count['store_bytes']} B)",
        f"{count['fp_arithmetic']} floating-point operations, "
        + (f"{found['vector_share']:.0%} of them on vectors" if count["fp_arithmetic"] else "none"),
        f"vectors of {count['vector_bits']} bits" if count["vector_bits"] else "no vectors",
    ]
    more = (
        ("fma", "FMA"), ("divides", "divisions or roots"), ("spills", "to or from the stack"),
        ("streaming_stores", "streaming stores"), ("atomics", "atomics"), ("gathers", "gathers"),
        ("converts", "conversions"), ("calls", "calls"), ("branches", "branches inside"),
    )  # fmt: skip
    parts += [f"{count[name]} {text}" for name, text in more if count.get(name)]
    if found["chain"]:
        parts.append(f"{count['chain']} operations in a row from one turn to the next")
    return "; ".join(parts)


def view(loop: Loop, why: str, sources: dict[str, str], others: Sequence[str] = ()) -> LoopView:
    """`loop` as a record; `sources` are the candidate's files, for the lines of code."""
    found = FrozenDict[float](figures(loop))
    lines = tuple(
        MarkedLine(
            address=i.address, text=i.text, source=loop.lines.get(i.address, ""),
            marks=marks(i, loop),
        )
        for i in loop.body
    )  # fmt: skip
    return LoopView(
        function=loop.function, why=why, source=loop.source, summary=summary(loop, found),
        figures=found, lines=lines, code=_code(lines, sources), others=tuple(others),
    )  # fmt: skip


def _code(lines: Iterable[MarkedLine], sources: dict[str, str]) -> FrozenDict[str]:
    """The text of each source line named, by `file:line`, of the candidate's own files."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, number = line.source.partition(":")
        text = sources.get(name, "").splitlines()
        if number and int(number) <= len(text):
            found[line.source] = text[int(number) - 1].strip()
    return FrozenDict(found)


def workbench(candidate: Candidate) -> Any:
    """The candidate's toolchain, where its builds can be taken apart. Raises BadCandidate."""
    toolchain = plugins("toolchains").get(candidate.toolchain)
    if not isinstance(toolchain, Workbench):
        raise BadCandidate(
            f"builds of the toolchain {candidate.toolchain} cannot be taken apart here",
            "give a candidate in C++",
        )
    return toolchain


def built(bench: Any, candidate: Candidate, problem: Problem, cache: Path, how: Variant) -> Build:
    """The build of a variant. Raises BadCandidate with the compiler's message."""
    build: Build = bench.build_variant(candidate, problem, cache, how)
    if not build.ok:
        line = next((x for x in build.log.splitlines() if "error" in x), build.log[:200])
        raise BadCandidate(f"it does not build: {line.strip()}", "see epitaxy judge")
    return build


def listed(bench: Any, build: Build) -> list[Loop]:
    """The loops of a build. Raises BadEnvironment where no listing can be had."""
    text = bench.listing(build)
    if not text:
        raise BadEnvironment(
            "the library cannot be listed", "apt install binutils (objdump), or a smaller kernel"
        )
    if not re.search(r"%[re]?[abcds][xip]l?\b", text):
        raise BadEnvironment("only x86-64 code is read so far", "use objdump -d on the library")
    return loops(text)


def disassemble(
    candidate: Candidate, problem: Problem, cache: Path, function: str = ""
) -> LoopView:
    """The candidate's hot loop, annotated; in `function` where one is named (or part of a name).

    Without a run to say where the time goes it is the innermost loop that does most. Raises
    BadCandidate for one that does not build or has no loop, UnknownName for a function.
    """
    bench = workbench(candidate)
    found = listed(bench, built(bench, candidate, problem, cache, DEBUG))
    if function:
        names = sorted({loop.function for loop in found})
        found = [loop for loop in found if function in loop.function]
        if not found:
            raise UnknownName.of("function with a loop", function, names)
    loop, _ = hot_loop(found)
    if loop is None:
        raise BadCandidate("its code has no loop", "nothing to show: see epitaxy show")
    others = [describe(v) for v in found if v is not loop and v.inner]
    why = "the innermost loop that does most, by looking; epitaxy profile finds it by sampling"
    return view(loop, why, dict(candidate.files), others)


def describe(loop: Loop) -> str:
    """A loop in few words: where it is and how long."""
    where = f" at {loop.source}" if loop.source else ""
    return f"{loop.function}{where}: {len(loop.body)} instructions"
