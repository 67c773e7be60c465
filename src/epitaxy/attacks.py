"""The attack corpus, run against the judge: `python -m epitaxy.attacks [NAMES]`.

Each attack names the single guard that refuses it. It is judged with every guard in force, and
again without its own: the first must refuse it, the second must accept it, or the guard is not
what stops it. Honest controls that look suspicious must be accepted.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput, UnknownName
from epitaxy.judge import Judge
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.record import FrozenDict
from epitaxy.verdict import Verdict

_HEADER = re.compile(r"^(?://|#) (problem|guard|off|plan|what): (.+)$", re.M)
_SUFFIX = {".cpp": "cpp", ".py.txt": "torch"}


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """One file of the corpus: an attack, or an honest control when it names no guard."""

    name: str
    problem: str
    what: str
    toolchain: str
    text: str
    guard: str = ""
    off: tuple[str, ...] = ()
    plan: str = "screen"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the judge said: with all guards but `off`, and (attacks only) without its own too."""

    specimen: Specimen
    verdict: Verdict
    without: Verdict | None = None

    @property
    def fault(self) -> str:
        """What is wrong with the judge or the corpus; "" when all is as it must be."""
        accepted = self.verdict.accepted
        if not self.specimen.guard:
            return "" if accepted else "honest, but not accepted"
        if accepted:
            return "an undeserved acceptance"
        if self.without is None or not self.without.accepted:
            return "its guard is not what stops it"
        return ""


def corpus() -> list[Specimen]:
    """Attacks, then controls, by name. Raises BadInput for a file without its header."""
    found = []
    for folder in ("attacks", "controls"):
        place = resources.files("epitaxy") / "corpus" / folder
        for file in sorted(place.iterdir(), key=lambda f: f.name):
            found.append(_specimen(file.name, file.read_text(encoding="utf-8"), folder))
    return found


def chosen(names: Sequence[str]) -> list[Specimen]:
    """The specimens of these names, all when there are none. Raises UnknownName."""
    known = {s.name: s for s in corpus()}
    for name in names:
        if name not in known:
            raise UnknownName.of("specimen", name, list(known))
    return [known[name] for name in names or known]


def _specimen(file: str, text: str, folder: str) -> Specimen:
    suffix = next((s for s in _SUFFIX if file.endswith(s)), "")
    head = dict(_HEADER.findall(text))
    wanted = {"problem", "what"} | ({"guard"} if folder == "attacks" else set())
    if not suffix or not wanted <= set(head):
        raise BadInput(f"corpus/{folder}/{file} lacks its header", f"state {sorted(wanted)}")
    return Specimen(
        name=file.removesuffix(suffix), problem=head["problem"], what=head["what"],
        toolchain=_SUFFIX[suffix], text=text, guard=head.get("guard", ""),
        off=tuple(head.get("off", "").split()), plan=head.get("plan", "screen"),
    )  # fmt: skip


class Range:
    """Judges on this machine, one for each problem and set of guards taken away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine: Any = plugins("machines").get("local")
        self._judges: dict[tuple[str, tuple[str, ...]], Judge] = {}

    def fire(self, it: Specimen) -> Outcome:
        """Judge one specimen, an attack a second time without its guard."""
        verdict = self._judge(it, it.off)
        if not it.guard:
            return Outcome(specimen=it, verdict=verdict)
        return Outcome(specimen=it, verdict=verdict, without=self._judge(it, (*it.off, it.guard)))

    def close(self) -> None:
        """End all processes."""
        for judge in self._judges.values():
            judge.close()
        self.machine.close()

    def _judge(self, it: Specimen, without: Sequence[str]) -> Verdict:
        key = (it.problem, tuple(sorted(without)))
        if key not in self._judges:
            self._judges[key] = Judge(
                load(self._problem(it.problem)), self.machine, baselines=["eager"],
                cache=self.folder / "build", without=key[1],
            )  # fmt: skip
        judge = self._judges[key]
        return judge.judge(_candidate(it, judge), it.plan)

    def _problem(self, name: str) -> Path:
        path = self.folder / f"{name}.py"
        file = resources.files("epitaxy") / "corpus" / "problems" / f"{name}.py.txt"
        path.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        return path


def _candidate(it: Specimen, judge: Judge) -> Candidate:
    if it.toolchain == "torch":
        files, entry = {"model_new.py": it.text}, "model_new.py"
    else:
        from epitaxy.proposers.grower.growth import grow_program

        forward = grow_program(judge.reference).forward
        files, entry = {"kernel.cpp": it.text, "forward.py": forward}, "forward.py"
    return Candidate(
        problem=judge.problem.digest, toolchain=it.toolchain, files=FrozenDict(files), entry=entry,
        proposer="corpus",
    )  # fmt: skip


def run(specimens: Sequence[Specimen]) -> Iterator[Outcome]:
    """Outcomes as they come."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Range(Path(folder))) as place,
    ):
        for it in specimens:
            yield place.fire(it)


def row(it: Outcome) -> str:
    """One line of the table."""
    first = f"{it.verdict.status}: {it.verdict.reason.splitlines()[0]}" if it.verdict.reason else ""
    again = ""
    if it.without is not None:
        again = "accepted" if it.without.accepted else f"{it.without.status} {it.without.reason}"
    guard = it.specimen.guard or "(honest)"
    cells = (f"{it.specimen.name:26}", f"{guard:13}", f"{(first or 'accepted')[:64]:64}", again)
    return " | ".join((*cells, it.fault.upper()))


def main(names: Sequence[str]) -> int:
    """Print the table; 1 when anything is not as it must be, 2 for an unknown name."""
    try:
        specimens = chosen(names)
    except UnknownName as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("attack                     | guard         | with all guards | without its guard |")
    outcomes = []
    for outcome in run(specimens):
        outcomes.append(outcome)
        print(row(outcome), flush=True)
    faults = sum(bool(o.fault) for o in outcomes)
    attacks = sum(bool(s.guard) for s in specimens)
    print(f"{attacks} attacks, {len(specimens) - attacks} honest controls, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
