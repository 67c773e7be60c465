"""Kernels with one planted bottleneck each: is it named first?

Profiles every `planted/*.cpp` on this machine and writes what the rules say. The first lines of a
kernel name the rule that it was planted for (nothing: it is clean) and its problem.

    python benchmarks/planted.py --record metrics.json [--only NAME,NAME] [--held]
    python benchmarks/planted.py --again metrics.json --out table.md
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
from epitaxy.metric import Profile, metrics_of
from epitaxy.problem import load
from epitaxy.profiling.profile import FAMILY, profile
from epitaxy.profiling.target import from_cpp

FOLDER = Path(__file__).parent / "planted"
HELD = FOLDER / "held"
"""Kernels that no rule and no measurement was ever changed for: each was run once."""
ACCUSED = 0.15
"""A clean kernel is accused when a bottleneck promises this much of its time."""


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


def one(file: Path, machine: Any) -> tuple[Outcome, dict[str, Any]]:
    """Profile one kernel: what was found, and its metrics for the record."""
    problem = load(FOLDER / "problems" / f"{header(file, 'problem')}.py")
    planted, start = header(file, "planted"), time.monotonic()
    try:
        measured = profile(from_cpp(file, problem), problem, machine)
        said = diagnose([measured.profile])
    except EpitaxyError as error:
        return Outcome(file.stem, planted, [], time.monotonic() - start, str(error)), {}
    found = [(f.rule, f.gain or 0.0) for f in said.bottlenecks]
    record = {
        "planted": planted,
        "metrics": {m.id: float(f"{m.value:.5g}") for m in measured.profile.metrics},
        "loop": measured.loop.summary if measured.loop else "",
        "notes": list(measured.profile.notes[1:]),
    }
    return Outcome(file.stem, planted, found, time.monotonic() - start), record


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


def recorded(name: str, record: dict[str, Any]) -> Outcome:
    """What the rules say of recorded metrics."""
    said = diagnose([as_profile(name, record)])
    return Outcome(
        name, record["planted"], [(f.rule, f.gain or 0.0) for f in said.bottlenecks], 0.0
    )


def as_profile(name: str, record: dict[str, Any]) -> Profile:
    """The profile of one record."""
    metrics = metrics_of(record["metrics"], "record")
    return Profile(kernel=name, family=FAMILY, source="profile", metrics=metrics)


def measured_now(names: list[str], record: Path | None, held: bool = False) -> list[Outcome]:
    """Profile the kernels named (none: all), adding each to the file `record` as it is done."""
    place = HELD if held else FOLDER
    files = [f for f in sorted(place.glob("*.cpp")) if not names or f.stem in names]
    machine = LocalMachine()
    outcomes = []
    for file in files:
        outcome, found = one(file, machine)
        outcomes.append(outcome)
        if record is not None and found:
            known = json.loads(record.read_text()) if record.is_file() else {}
            text = json.dumps(dict(sorted({**known, file.stem: found}.items())), indent=1)
            record.write_text(text + "\n", encoding="utf-8")
    machine.close()
    return outcomes


def main() -> int:
    """Run all, or --only some; exit code 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="Markdown table to write")
    parser.add_argument("--record", type=Path, help="JSON file of metrics, added to")
    parser.add_argument("--again", type=Path, help="ask the rules again of such a file")
    parser.add_argument("--only", default="", help="names, by comma")
    parser.add_argument("--held", action="store_true", help="those that nothing was tuned for")
    given = parser.parse_args()
    names = [n for n in given.only.split(",") if n]
    if given.again:
        outcomes = [recorded(n, r) for n, r in json.loads(given.again.read_text()).items()]
    else:
        outcomes = measured_now(names, given.record, given.held)
    for o in outcomes:
        told = ", ".join(f"{rule} {gain:.2f}" for rule, gain in o.found[:4]) or o.note or "nothing"
        mark = "right" if o.right else "WRONG"
        print(f"{mark} {o.name} [{o.planted or 'clean'}]: {told} ({o.seconds:.0f} s)", flush=True)
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
