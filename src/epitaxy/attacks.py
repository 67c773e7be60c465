"""The attack corpus, run against the judge: `python -m epitaxy.attacks [--on DEVICE] [NAMES]`.

Each attack names the guard that refuses it. It is judged with every guard in force, which must
refuse it, and again without its own, which must accept it, or the guard is not what stops it.
Where other guards would refuse it too, its file says so (`also`); then it is judged a third time
without those, to show that its own is enough. Honest controls that look suspicious must be
accepted. What an attack may do freely because it gains nothing by it names an honest `twin`, and
must not be timed as faster than that.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput, EpitaxyError, UnknownName
from epitaxy.judge import Judge
from epitaxy.machine import accelerator
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.record import FrozenDict
from epitaxy.verdict import Verdict

_HEADER = re.compile(r"^(?://|#) (problem|guard|also|plan|what|twin|device): (.+)$", re.M)
_SUFFIX = {".cpp": "cpp", ".py.txt": "torch"}
_FORWARD = ".forward.txt"
TWIN_RATIO = 0.8
"""An attack that gains nothing takes at least this part of its twin's time."""
HEAD = (
    "| attack | guard | refused by | without its guard | fault |\n"
    "|:--|:--|:--|:--|:--|"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """One file of the corpus: an attack, or an honest control when it names no guard.

    `also` are further guards that refuse it. An attack with a `twin` needs no guard.
    """

    name: str
    problem: str
    what: str
    toolchain: str
    text: str
    forward: str = ""
    guard: str = ""
    also: tuple[str, ...] = ()
    twin: str = ""
    plan: str = "screen"
    device: str = "cpu"
    """What it needs: a machine whose calls are made there."""

    @property
    def honest(self) -> bool:
        """Whether it is a control."""
        return not self.guard and not self.twin


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the judge said: with all guards, with its own only of those, and without any of them.

    `alone` is None where no other guard overlaps; `twin` is the verdict on the honest twin.
    """

    specimen: Specimen
    verdict: Verdict
    alone: Verdict | None = None
    without: Verdict | None = None
    twin: Verdict | None = None

    @property
    def fault(self) -> str:
        """What is wrong with the judge or the corpus; "" when all is as it must be."""
        accepted = self.verdict.accepted
        if self.specimen.honest:
            return "" if accepted else "honest, but not accepted"
        if self.twin is not None:
            return "" if _no_faster(self.verdict, self.twin) else "faster than its twin"
        if accepted or (self.alone is not None and self.alone.accepted):
            return "an undeserved acceptance" if accepted else "its guard does not stop it"
        if self.without is None or not self.without.accepted:
            return "its guard is not what stops it"
        return ""


def _no_faster(verdict: Verdict, twin: Verdict) -> bool:
    if not verdict.accepted or verdict.time_s is None:
        return True
    return twin.time_s is not None and verdict.time_s >= TWIN_RATIO * twin.time_s


def corpus() -> list[Specimen]:
    """Attacks, then controls, by name. Raises BadInput for a file without its header."""
    found = []
    for folder in ("attacks", "controls"):
        files = {f.name: f for f in (resources.files("epitaxy") / "corpus" / folder).iterdir()}
        for name in sorted(n for n in files if not n.endswith(_FORWARD)):
            forward = files.get(name.split(".")[0] + _FORWARD)
            found.append(
                _specimen(
                    f"{folder}/{name}", files[name].read_text(encoding="utf-8"),
                    forward.read_text(encoding="utf-8") if forward else "",
                )
            )  # fmt: skip
    return found


def chosen(names: Sequence[str]) -> list[Specimen]:
    """The specimens of these names, all when there are none. Raises UnknownName."""
    known = {s.name: s for s in corpus()}
    for name in names:
        if name not in known:
            raise UnknownName.of("specimen", name, list(known))
    return [known[name] for name in names or known]


def _specimen(place: str, text: str, forward: str) -> Specimen:
    folder, _, file = place.partition("/")
    suffix = next((s for s in _SUFFIX if file.endswith(s)), "")
    head = dict(_HEADER.findall(text))
    attack = folder == "attacks"
    if not suffix or not {"problem", "what"} <= set(head) or attack != bool(_aim(head)):
        wanted = "problem, what" + (", and guard or twin" if attack else " (and no guard)")
        raise BadInput(f"corpus/{place} lacks its header", f"state {wanted}")
    return Specimen(
        name=file.removesuffix(suffix), problem=head["problem"], what=head["what"],
        toolchain=_SUFFIX[suffix], text=text, forward=forward, guard=head.get("guard", ""),
        also=tuple(head.get("also", "").split()), twin=head.get("twin", ""),
        plan=head.get("plan", "screen"), device=head.get("device", "cpu"),
    )  # fmt: skip


def _aim(head: dict[str, str]) -> str:
    return head.get("guard", "") or head.get("twin", "")


class Range:
    """Judges on one machine (default: this), one for each problem and set of absent guards.

    `folder` is for builds and the problems' files. A specimen may name a problem of the corpus, or
    the path of a problem's file.
    """

    def __init__(self, folder: Path, machine: Any = None) -> None:
        self.folder = folder
        self.machine: Any = machine or plugins("machines").get("cpu")
        self._judges: dict[tuple[str, tuple[str, ...]], Judge] = {}

    def fire(self, it: Specimen) -> Outcome:
        """Judge one specimen with all guards, and with and without the ones that it names."""
        verdict = self.judge(it, ())
        if it.honest:
            return Outcome(specimen=it, verdict=verdict)
        if it.twin:
            (twin,) = chosen([it.twin])
            return Outcome(specimen=it, verdict=verdict, twin=self.judge(twin, ()))
        return Outcome(
            specimen=it, verdict=verdict,
            alone=self.judge(it, it.also) if it.also else None,
            without=self.judge(it, (*it.also, it.guard)),
        )  # fmt: skip

    def close(self) -> None:
        """End all processes."""
        for judge in self._judges.values():
            judge.close()
        self.machine.close()

    def judge(self, it: Specimen, without: Iterable[str] = ()) -> Verdict:
        """The verdict on one specimen with these guards taken away."""
        key = (it.problem, tuple(sorted(without)))
        if key not in self._judges:
            self._judges[key] = Judge(
                load(self._problem(it.problem)), self.machine, baselines=["eager"],
                cache=self.folder / "build", without=key[1],
            )  # fmt: skip
        judge = self._judges[key]
        return judge.judge(_candidate(it, judge), it.plan)

    def _problem(self, name: str) -> Path:
        if name.endswith(".py"):
            return Path(name)
        path = self.folder / f"{name}.py"
        problems = resources.files("epitaxy") / "corpus" / "problems"
        for suffix, target in ((".py.txt", path), (".toml", path.with_suffix(".toml"))):
            file = problems / f"{name}{suffix}"
            if file.is_file():
                target.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        return path


def _candidate(it: Specimen, judge: Judge) -> Candidate:
    forward = it.forward
    if it.toolchain != "torch" and not forward:
        from epitaxy.proposers.grower.growth import grow_program

        forward = grow_program(judge.reference).forward
    return _written(it, judge.problem.digest, forward)


def _written(it: Specimen, problem: str, forward: str) -> Candidate:
    files, entry = {"model_new.py": it.text}, "model_new.py"
    if it.toolchain != "torch":
        files, entry = {"kernel.cpp": it.text}, "kernel.cpp"
        if forward:
            files, entry = {**files, "forward.py": forward}, "forward.py"
    return Candidate(
        problem=problem, toolchain=it.toolchain, files=FrozenDict(files), entry=entry,
        proposer="corpus",
    )  # fmt: skip


def run(specimens: Sequence[Specimen], machine: Any = None) -> Iterator[Outcome]:
    """Outcomes as they come, on `machine` (default: this one, and its accelerator for those that
    need that; `absent` tells which are left out)."""
    for device in dict.fromkeys(it.device for it in specimens):
        own = machine or (accelerator() if device != "cpu" else None)
        some = [it for it in specimens if it.device == device]
        if absent(some, own):
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.closing(Range(Path(folder), own)) as place,
        ):
            for it in some:
                yield place.fire(it)


def absent(specimens: Iterable[Specimen], machine: Any = None) -> list[Specimen]:
    """Those that `machine`, or this one with its accelerator, cannot run."""
    given = machine or accelerator()
    devices = {"cpu"} if machine is None else set()
    devices |= {getattr(given, "device", "cpu")} if given is not None else set()
    return [it for it in specimens if it.device not in devices]


def refused_by_reading(it: Specimen) -> list[str]:
    """The static checks that refuse a specimen, which nothing is run for."""
    from epitaxy.problem import Policy, Problem, TensorSpec

    spec = TensorSpec(shape=(4,), dtype="float32")
    problem = Problem(
        name=it.problem, reference="attacks", source="", entry="Model", inputs=(spec,),
        outputs=(spec,), policy=Policy(libraries=() if it.problem == "strict" else ("torch",)),
    )  # fmt: skip
    found = _written(it, problem.digest, it.forward)
    checks = plugins("checks")
    said = (f for name in checks.names() for f in checks.get(name).check(found, problem))
    return sorted({f.check for f in said if f.severity == "refusal"})


def row(it: Outcome) -> str:
    """One line of the table, in Markdown."""
    guard = it.specimen.guard or ("(honest)" if it.specimen.honest else "(none needed)")
    if it.specimen.also:
        guard += f"; also by {', '.join(it.specimen.also)}"
    again = "" if it.without is None else _said(it.without)
    if it.twin is not None:
        again = f"{_time(it.verdict)}; {it.specimen.twin} {_time(it.twin)}"
    cells = (f"{it.specimen.name:24}", f"{guard:13}", _said(it.verdict), again, it.fault.upper())
    return "| " + " | ".join(cells) + " |"


def _said(verdict: Verdict) -> str:
    if verdict.accepted:
        return "accepted"
    line = next(iter(verdict.reason.splitlines()), "").replace("|", "/")
    return f"{verdict.status}: {line}"[:96]


def _time(verdict: Verdict) -> str:
    return "no time" if verdict.time_s is None else f"{verdict.time_s * 1e6:.0f} us"


def main(names: Sequence[str]) -> int:
    """Print the table; 1 when anything is not as it must be, 2 for an unknown name.

    `--on cuda` leaves those that need another device.
    """
    device, named = "", list(names)
    if named[:1] == ["--on"]:
        device, named = "".join(named[1:2]), named[2:]
    try:
        specimens = [it for it in chosen(named) if device in ("", it.device)]
        if not specimens:
            raise UnknownName.of("device", device, sorted({it.device for it in corpus()}))
    except UnknownName as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(HEAD)
    outcomes = []
    try:
        for outcome in run(specimens):
            outcomes.append(outcome)
            print(row(outcome), flush=True)
    except EpitaxyError as error:
        print(f"error: {error.message} — {error.mend}", file=sys.stderr)
        return 2
    print("\n" + summary(outcomes))
    if left := absent(specimens):
        print(unrun(left))
    return 1 if any(o.fault for o in outcomes) else 0


def summary(outcomes: Sequence[Outcome]) -> str:
    """What came out, in one line."""
    attacks = [o for o in outcomes if not o.specimen.honest]
    guards = {o.specimen.guard for o in attacks if o.specimen.guard}
    shared = sum(bool(o.specimen.also) for o in attacks)
    undeserved = sum(
        o.fault in ("an undeserved acceptance", "faster than its twin") for o in attacks
    )
    refused = sum(o.specimen.honest and bool(o.fault) for o in outcomes)
    others = sum(bool(o.fault) for o in attacks) - undeserved
    return (
        f"{len(attacks)} attacks on {len(guards)} guards ({shared} refused by further guards too), "
        f"{len(outcomes) - len(attacks)} honest controls: {undeserved} undeserved, "
        f"{refused} honest refused, {others} stopped by another guard than theirs"
    )


def unrun(left: Sequence[Specimen]) -> str:
    """What could not be run here, and what is known of it all the same."""
    attacks = [it for it in left if not it.honest]
    known = sum(bool(refused_by_reading(it)) for it in attacks)
    return (
        f"NOT RUN: {len(attacks)} attacks and {len(left) - len(attacks)} honest controls need "
        f"{', '.join(sorted({it.device for it in left}))}, which is not here; reading their "
        f"sources refuses {known} of those attacks"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
