"""Porting: read a kernel and its problem, grow it again for another language and chip, prove it.

What is carried over is the problem (its reference) and what the original's tiling tells. The port
is judged like every other candidate: under the target's stand-in where the chip is not here.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epitaxy import handmade
from epitaxy import problem as problems
from epitaxy.candidate import Candidate
from epitaxy.checked import judge_for
from epitaxy.chip import Chip
from epitaxy.chip_facts import find
from epitaxy.errors import BadCandidate, BadEnvironment, BadInput, UnknownName
from epitaxy.ledger import Judged, Ledger
from epitaxy.parsing import parsed, source_lines
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.proposers._carry import Carried, Porter, tell
from epitaxy.record import FrozenDict, canonical, digest_text
from epitaxy.study import Budget, create_study
from epitaxy.tiling import Tiling, read_constants
from epitaxy.toolchain import Crossing
from epitaxy.verdict import Finding, Verdict

SOURCES = handmade.SOURCES | {".cu", ".hip", ".cl"}
NEW = "class ModelNew"


@dataclass(frozen=True)
class Original:
    """A kernel that is given, with its problem, the chip that it is for and what it tells."""

    candidate: Candidate
    problem: Problem
    chip: Chip
    told: tuple[Tiling, ...]
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Moved:
    """What became of a port: `best` is None where nothing was accepted."""

    original: Original
    toolchain: str
    chip: Chip
    carried: tuple[Carried, ...]
    judged: tuple[Judged, ...]
    best: Judged | None
    first: str = ""
    """The id of the candidate that has the original's tiling."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why regions stay with the framework, by the operators in them."""


# -- names ----------------------------------------------------------------------------------------


def toolchain_named(name: str) -> Any:
    """The toolchain of that name, with - or _. Raises UnknownName."""
    return plugins("toolchains").get(name.strip().lower().replace("-", "_"))


def writer_of(toolchain: Any) -> Any:
    """The proposer that writes for a toolchain. Raises BadInput where none does."""
    known = plugins("proposers")
    language = getattr(toolchain, "language", "")
    for proposer in map(known.get, known.names()):
        if not hasattr(proposer, "dialect"):
            continue
        if proposer.name == language or getattr(proposer, "writes", "") == toolchain.name:
            return proposer
    raise BadInput(f"nothing is grown for {toolchain.name}", "see: epitaxy toolchains")


def chip_for(toolchain: Any, name: str = "") -> Chip:
    """The chip of that name, or the one that a toolchain builds for unless told otherwise.

    Raises UnknownName, and BadInput where the toolchain does not build for it.
    """
    if not isinstance(toolchain, Crossing):
        if name not in ("", "local"):
            raise BadInput(
                f"{toolchain.name} builds for this machine, not for {name}", "leave --chip out"
            )
        local: Chip = plugins("machines").get("local").chip()
        return local
    chip: Chip = find(name) if name else toolchain.default_chip()  # type: ignore[attr-defined]
    if not toolchain.targets(chip):
        from epitaxy.chip_facts import load_all

        known = [c.id for c in load_all() if toolchain.targets(c)]
        raise BadInput(
            f"{toolchain.name} does not build for {chip.name}", f"it does for {', '.join(known)}"
        )
    return chip


def machine_for(toolchain: Any, chip: Chip) -> Any:
    """Where candidates of a toolchain are judged for `chip`. Raises BadEnvironment where the
    toolchain is not installed."""
    machines = plugins("machines")
    if isinstance(toolchain, Crossing):
        return machines.get("absent").of(chip, toolchain.name)
    return machines.get("local")


# -- reading the original -------------------------------------------------------------------------


def read_original(
    kernel: str, ledger: Ledger, *, problem: str = "", toolchain: str = "", chip: str = ""
) -> Original:
    """The kernel that a candidate's id, an exported folder or a source file names.

    `problem` is needed for sources alone; `toolchain` and `chip` are those that it is written for.
    Raises BadInput where they do not fit together.
    """
    path = Path(kernel)
    if path.exists():
        candidate, its = _from_path(path, problem, toolchain)
    elif path.suffix or "/" in kernel:
        raise BadInput(
            f"{kernel} does not exist", "give a candidate's id, an exported folder or a source file"
        )
    else:
        candidate = ledger.candidate(kernel)
        its = ledger.problem(candidate.problem)
    if problem and problems.load(problem).replace(policy=its.policy).digest != its.digest:
        raise BadInput(
            f"{kernel} is for the problem {its.name}, not for {problem}", "leave --problem out"
        )
    kind = toolchain_named(toolchain or candidate.toolchain)
    if kind.name != candidate.toolchain:
        raise BadInput(
            f"{kernel} is written for {candidate.toolchain}, not for {kind.name}",
            "leave --from out",
        )
    known = _recorded(ledger, candidate, kind)
    place = chip_for(kind, chip or next(reversed(known), ""))
    verdict = known.get(place.id if isinstance(kind, Crossing) else "")
    told, notes = _told(candidate, kind, place)
    return Original(candidate, its, place, told, verdict, notes)


def _recorded(ledger: Ledger, candidate: Candidate, toolchain: Any) -> dict[str, Verdict]:
    """The verdicts on a candidate in the ledger by the chip's id, the latest last; "" is this
    machine."""
    here = digest_text(canonical(plugins("machines").get("local").fingerprint()))
    found: dict[str, Verdict] = {}
    for verdict in ledger.verdicts(candidate.problem):
        if verdict.candidate != candidate.digest or verdict.status == "machine_fault":
            continue
        if not isinstance(toolchain, Crossing):
            found |= {"": verdict} if verdict.machine == here else {}
            continue
        with contextlib.suppress(UnknownName, BadInput):
            chip = find(str(ledger.machine(verdict.machine).get("chip", ""))).id
            found.pop(chip, None)
            found[chip] = verdict
    return found


def _from_path(path: Path, problem: str, toolchain: str) -> tuple[Candidate, Problem]:
    evidence = path / "evidence.json"
    if path.is_dir() and evidence.is_file():
        return _exported(path, evidence)
    if not problem:
        raise BadInput(
            f"{path} does not say what it computes", "give the reference: --problem FILE"
        )
    if not toolchain:
        raise BadInput(f"{path} does not say its language", "give its toolchain: --from NAME")
    its = problems.load(problem)
    return _by_hand(path, its, toolchain_named(toolchain).name), its


def _exported(folder: Path, evidence: Path) -> tuple[Candidate, Problem]:
    """What `export` wrote, with the sources as they are now."""
    try:
        facts = json.loads(_text(evidence))
        problem = Problem.from_dict(facts["problem"])
        candidate = Candidate.from_dict(facts["candidate"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadCandidate(f"cannot read {evidence}: {error!r}", "export it again") from None
    now = {
        n: _text(folder / n) if (folder / n).is_file() else t for n, t in candidate.files.items()
    }
    if now != dict(candidate.files):
        edited = {n: t for n, t in now.items() if not n.startswith("small/")}
        intent = f"from {folder.name}, changed by hand"
        candidate = candidate.replace(
            files=edited, genome="", proposer=handmade.HAND, intent=intent
        )
    return candidate, problem


def _by_hand(path: Path, problem: Problem, toolchain: str) -> Candidate:
    """Sources that people wrote: a file, or a folder of them. Raises BadCandidate."""
    paths = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    files = {p.name: _text(p) for p in paths if p.suffix in SOURCES}
    if not files:
        raise BadCandidate(
            f"{path} holds no sources", f"give files of {', '.join(sorted(SOURCES))}"
        )
    if path.is_file() and path.suffix == ".py" and isinstance(toolchain_named(toolchain), Crossing):
        files = _parted(files[path.name])
    entry = next((n for n, t in files.items() if NEW in t), next(iter(files)))
    return Candidate(
        problem=problem.digest, toolchain=toolchain, files=FrozenDict(files), entry=entry,
        proposer=handmade.HAND, intent=f"from {path.name}",
    )  # fmt: skip


def _parted(text: str) -> dict[str, str]:
    """A module as the kernels and the part that calls them, as toolchains of Python want them."""
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError) as error:
        raise BadCandidate(f"the kernel is not Python: {error}", "mend the file") from None
    lines = source_lines(text)
    new = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ModelNew"), None)
    if new is None:
        return {"kernels.py": text}
    first = min([new.lineno, *(d.lineno for d in new.decorator_list)]) - 1
    forward = "".join(lines[first : new.end_lineno])
    kernels = "".join([*lines[:first], *lines[new.end_lineno :]])
    return {"kernels.py": kernels, "forward.py": forward, "small/kernels.py": kernels,
            "small/forward.py": forward}  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadCandidate(f"cannot read {path}: {error}", "give readable UTF-8 sources") from None


def _told(
    candidate: Candidate, toolchain: Any, chip: Chip
) -> tuple[tuple[Tiling, ...], tuple[str, ...]]:
    """What a candidate tells of its tiling, and remarks on it."""
    notes: list[str] = []
    if candidate.genome:
        try:
            told = tell(candidate, writer_of(toolchain).dialect, chip)
            return told, ("its tiling is read from its genome",)
        except BadInput as error:
            notes.append(f"its genome cannot be read: {error.message}")
    else:
        notes.append("it has no genome: its source alone tells its tiling")
    fact = chip.facts.get("warp_lanes")
    found = read_constants(candidate.files, int(fact.value) if fact else 1)
    if found is None:
        return (), (*notes, "nothing of its tiling can be read: the port begins with its own guess")
    read = ", ".join(f"{name}={value}" for name, value in found.values.items())
    return (found,), (*notes, f"read from its constants: {read}")


def judge_original(
    original: Original, ledger: Ledger, baselines: Sequence[str] | None = None
) -> Original:
    """`original` with a verdict on it, where one can be had; a remark says why not. Where it is
    timed it is compared with these `baselines` (default: all that run there).

    Raises BadInput where it does not compute its problem.
    """
    candidate = original.candidate
    if original.verdict is None and NEW not in candidate.files[candidate.entry]:
        return _remarked(original, "not judged: it defines no ModelNew")
    verdict = original.verdict
    if verdict is None:
        try:
            verdict = _judged(original, ledger, baselines)
        except (BadEnvironment, BadCandidate) as error:
            return _remarked(original, f"not judged: {error.message} ({error.mend})")
    if verdict.status in ("incorrect", "crashed"):
        raise BadInput(
            f"the kernel does not compute {original.problem.name}: {verdict.reason}",
            "give the problem that it is for: --problem FILE",
        )
    made = Original(original.candidate, original.problem, original.chip, original.told, verdict,
                    original.notes)  # fmt: skip
    return made if verdict.accepted else _remarked(made, f"{verdict.status}: {verdict.reason}")


def _judged(original: Original, ledger: Ledger, baselines: Sequence[str] | None) -> Verdict:
    machine = machine_for(toolchain_named(original.candidate.toolchain), original.chip)
    judge = judge_for(machine)(original.problem, machine, baselines=baselines)
    judge.notes += _few(baselines)
    try:
        verdict: Verdict = judge.judge(original.candidate)
    finally:
        judge.close()
    ledger.add_problem(original.problem)
    ledger.add_machine(machine.fingerprint())
    ledger.add_candidate(original.candidate)
    ledger.add_verdict(verdict)
    return verdict


def _remarked(original: Original, remark: str) -> Original:
    return Original(original.candidate, original.problem, original.chip, original.told,
                    original.verdict, (*original.notes, remark))  # fmt: skip


# -- the port -------------------------------------------------------------------------------------


def port(
    original: Original, toolchain: Any, machine: Any, *, ledger: Ledger, budget: str | Budget = "4",
    baselines: Sequence[str] | None = None, callbacks: Sequence[Callable[..., None]] = (),
) -> Moved:  # fmt: skip
    """Grow `original`'s problem for `toolchain` on `machine`, from its tiling onwards; where it is
    timed it is compared with these `baselines` (default: all that run there).

    Raises BadProblem where the target's grower can write none of its regions.
    """
    writer = writer_of(toolchain)
    candidate = original.candidate
    porter = Porter(writer, original.told, _name(candidate, original.chip), candidate.id)
    ledger.add_problem(original.problem)
    ledger.add_candidate(candidate)
    study = create_study(
        original.problem, machine=machine, proposer=porter, ledger=ledger, budget=budget
    )
    study.baselines = baselines
    study.judge.notes += _few(baselines)
    study.optimize(callbacks=callbacks)
    captured = writer.captured(study.view())
    own = [p for p in study.view().judged() if p[0].toolchain == toolchain.name]
    good = [p for p in own if p[1].accepted]
    best = max(good, key=lambda p: (p[1].plan == "full", p[1].merit), default=None)
    return Moved(
        original, toolchain.name, machine.chip(), porter.carried, tuple(own), best,
        porter.first.id if porter.first else "", dict(getattr(captured, "refused", {})),
    )  # fmt: skip


def _few(baselines: Sequence[str] | None) -> list[Finding]:
    """What a verdict says besides that is compared with some baselines alone."""
    if baselines is None:
        return []
    message = f"compared with no other baselines than {', '.join(baselines)}"
    return [Finding(check="baselines", severity="note", message=message)]


def _name(candidate: Candidate, chip: Chip) -> str:
    return f"{candidate.id} ({candidate.toolchain} on {chip.id})"
