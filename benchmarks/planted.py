"""Kernels with one planted bottleneck each: is it named first?

Profiles every `planted/*.cpp` on this machine and writes what the rules say. The first lines of a
kernel name the rule that it was planted for (nothing: it is clean) and its problem.

    python benchmarks/planted.py --out docs/results/2026-11-21-planted.md [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.diagnose import diagnose
from epitaxy.errors import EpitaxyError
from epitaxy.machines.local import LocalMachine
from epitaxy.metric import Diagnosis
from epitaxy.problem import load
from epitaxy.profiling.profile import Measured, profile
from epitaxy.profiling.target import from_cpp

FOLDER = Path(__file__).parent / "planted"
ACCUSED = 0.15
"""A clean kernel is accused when a finding promises this much of its time."""


@dataclass
class Outcome:
    """What was planted in a kernel and what was found."""

    name: str
    planted: str
    found: list[tuple[str, float]]
    seconds: float
    note: str = ""

    @property
    def right(self) -> bool:
        """Whether the planted cause is first, or nothing is said against a clean kernel."""
        if self.planted:
            return bool(self.found) and self.found[0][0] == self.planted
        return not any(gain >= ACCUSED for _, gain in self.found)


def header(file: Path, word: str) -> str:
    """What a kernel's first lines say after `// word:`."""
    match = re.search(rf"^// {word}:[ ]*(\S*)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1] if match else ""


def one(file: Path, machine: Any, keep: Path | None) -> Outcome:
    """Profile one kernel; the record goes to the folder `keep`, if there is one."""
    problem = load(FOLDER / "problems" / f"{header(file, 'problem')}.py")
    start = time.monotonic()
    try:
        measured = profile(from_cpp(file, problem), problem, machine)
        said = diagnose([measured.profile])
    except EpitaxyError as error:
        return Outcome(file.stem, header(file, "planted"), [], time.monotonic() - start, str(error))
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{file.stem}.json").write_text(json.dumps(document(measured, said), indent=1))
    found = [(f.rule, f.gain or 0.0) for f in said.findings]
    return Outcome(file.stem, header(file, "planted"), found, time.monotonic() - start)


def document(measured: Measured, said: Diagnosis) -> dict[str, Any]:
    """The record of one run: the profile, and the rules that spoke, in their order."""
    return {
        "profile": measured.profile.to_dict(),
        "loop": measured.loop.summary if measured.loop else "",
        "findings": [[f.rule, round(f.gain or 0.0, 3)] for f in said.findings],
    }


def table(outcomes: list[Outcome]) -> str:
    """Markdown: one row a kernel."""
    rows = ["| kernel | planted | named first | then | right |", "|---|---|---|---|---|"]
    for o in outcomes:
        told = [f"{rule} ({gain:.0%})" for rule, gain in o.found] or [o.note or "nothing"]
        rows.append(
            f"| {o.name} | {o.planted or 'nothing'} | {told[0]} | {', '.join(told[1:4])} "
            f"| {'yes' if o.right else '**no**'} |"
        )
    return "\n".join(rows)


def main() -> int:
    """Run all, or --only some; exit code 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="Markdown table to write")
    parser.add_argument("--keep", type=Path, help="folder for one JSON record a kernel")
    parser.add_argument("--only", default="", help="names, by comma")
    given = parser.parse_args()
    names = [n for n in given.only.split(",") if n]
    files = [f for f in sorted(FOLDER.glob("*.cpp")) if not names or f.stem in names]
    machine = LocalMachine()
    outcomes = []
    for file in files:
        o = one(file, machine, given.keep)
        outcomes.append(o)
        told = ", ".join(f"{rule} {gain:.2f}" for rule, gain in o.found[:4]) or o.note or "nothing"
        mark = "right" if o.right else "WRONG"
        print(f"{mark} {o.name} [{o.planted or 'clean'}]: {told} ({o.seconds:.0f} s)", flush=True)
    machine.close()
    planted = [o for o in outcomes if o.planted]
    clean = [o for o in outcomes if not o.planted]
    said = (
        f"{sum(o.right for o in planted)} of {len(planted)} planted causes named first; "
        f"{sum(not o.right for o in clean)} of {len(clean)} clean kernels accused"
    )
    print(said)
    if given.out:
        given.out.write_text(f"{said}\n\n{table(outcomes)}\n", encoding="utf-8")
    return 0 if all(o.right for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
