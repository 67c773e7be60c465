"""Reading the ledger: one candidate, or all that was judged for a problem."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from epitaxy import unvouched
from epitaxy.candidate import Candidate
from epitaxy.cli import DONE
from epitaxy.commands.output import emit, line, note, open_ledger, results, stdout
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.exporting import export_recorded
from epitaxy.metric import Profiled
from epitaxy.problem import Problem, load
from epitaxy.progress import milliseconds
from epitaxy.report import Run, diff
from epitaxy.verdict import BASES

STOPPED = "read from the ledger"


def recorded_run(target: str, path: Path | None, policy: Mapping[str, Any] | None = None) -> Run:
    """What the ledger holds for a problem, given its file or the id of it or of a candidate.

    `policy` sets fields of the policy of a problem given by its file.
    """
    with open_ledger(path) as ledger:
        problem = recorded_problem(ledger, target, policy or {})
        best = ledger.best(problem.digest)
        return Run(
            problem=problem,
            judged=tuple(ledger.judged(problem.digest)),
            best=best[0] if best else None,
            chip=_chip(ledger, best[0][1].machine if best else ""),
            stop_reason=STOPPED,
        )


def recorded_problem(ledger: Any, target: str, policy: Mapping[str, Any]) -> Problem:
    """The problem of a file, or the recorded one of a name or of a candidate's id."""
    if Path(target).suffix or ":" in target or Path(target).exists():
        return load(target, **policy)
    try:
        found: Problem = ledger.problem(ledger.candidate(target).problem)
    except BadInput:
        found = ledger.problem(target)
    return found


def _chip(ledger: Any, machine: str) -> Any:
    """The chip that a recorded machine names, else this machine's; None where there is none."""
    from epitaxy.chip_facts import find
    from epitaxy.plugin import plugins

    chip = ""
    with contextlib.suppress(EpitaxyError):  # a ledger need not hold the machine
        chip = ledger.machine(machine).get("chip", "") if machine else ""
    try:
        return find(chip) if chip else plugins("machines").get("local").chip()
    except EpitaxyError:
        return None


def show_one(id: str, against: str, path: Path | None, as_json: bool) -> int:
    """Print a candidate with its verdict, or its difference from another; an exit code."""
    with open_ledger(path) as ledger:
        candidate = ledger.candidate(id)
        profiles = ledger.profiles(candidate.digest)
        verdict = _verdict(ledger, candidate, bool(profiles))
        doubt = unvouched.note(ledger, candidate.problem)
        if against:
            change = diff(candidate, _other(ledger, candidate, against))
            emit({"diff": change}) if as_json else _code("change.diff", change or "no difference")
            return DONE
    if as_json:
        record = {"id": candidate.id, "digest": candidate.digest, **candidate.to_dict()}
        kept = [{"digest": p.digest, **p.to_dict()} for p in profiles]
        verdicts = verdict.to_dict() if verdict else None
        notes = [doubt] if doubt else []
        emit({"candidate": record, "verdict": verdicts, "profiles": kept, "notes": notes})
        return DONE
    if doubt:
        note(f"warning: {doubt}")
    for name, text in [*_facts(candidate, verdict), *_profiled(profiles)]:
        line(f"{name:<12} {text}")
    for name, text in candidate.files.items():
        line(f"\n--- {name}")
        _code(name, text)
    return DONE


def _other(ledger: Any, candidate: Candidate, against: str) -> Candidate:
    if against == "parent" and not candidate.parents:
        raise BadInput(f"{candidate.id} has no parent", "give --diff the id of another candidate")
    found: Candidate = ledger.candidate(candidate.parents[0] if against == "parent" else against)
    return found


def _facts(candidate: Candidate, verdict: Any) -> list[tuple[str, str]]:
    rows = [("candidate", candidate.id), ("problem", candidate.problem[:12])]
    rows += [("proposer", candidate.proposer), ("toolchain", candidate.toolchain)]
    rows += [
        ("intent", candidate.intent),
        ("parents", ", ".join(p[:12] for p in candidate.parents)),
    ]
    rows += [("grown", ", ".join(candidate.regions)), ("left", ", ".join(candidate.left))]
    rows.append(("status", verdict.status if verdict else "not judged"))
    if verdict is not None and verdict.accepted:
        rows.append(("basis", f"{verdict.basis}: {BASES[verdict.basis]}"))
        if verdict.time_s is not None:
            rows.append(("time", milliseconds(verdict.time_s)))
        rows += [(c.baseline, f"{c.speedup:.2f}x ({c.outcome})") for c in verdict.comparisons]
    elif verdict is not None:
        rows.append(("reason", verdict.reason))
    rows.append(("genome", candidate.genome.replace("\n", "\n" + " " * 13)))
    return [(name, text) for name, text in rows if text]


def _verdict(ledger: Any, candidate: Candidate, profiled: bool) -> Any:
    """Its verdict; None for one that was profiled and never judged."""
    judged = [v for v in ledger.verdicts(candidate.problem) if v.candidate == candidate.digest]
    return ledger.verdict(candidate.digest) if judged or not profiled else None


def _profiled(profiles: Sequence[Profiled]) -> list[tuple[str, str]]:
    """The latest profile in a few lines, and how many there are."""
    from epitaxy.profiled import limits

    if not profiles:
        return []
    latest = profiles[0]
    taken = datetime.fromtimestamp(latest.taken_unix_s).strftime("%Y-%m-%d %H:%M")
    limit = ", ".join(limits(latest)) or "nothing stands out"
    more = f", the latest of {len(profiles)}" if len(profiles) > 1 else ""
    rows = [("profiled", f"{taken}{more}"), ("limited by", limit)]
    return [*rows, ("time then", milliseconds(latest.profile.time_s)), ("hot loop", latest.loop)]


def _code(name: str, text: str) -> None:
    """Source on stdout: highlighted on a terminal, exact otherwise."""
    if not results().isatty():
        line(text)
        return
    from rich.syntax import Syntax

    lexer = Syntax.guess_lexer(name, text)
    stdout().print(Syntax(text, lexer, background_color="default"))


def export_one(id: str, out: Path, path: Path | None) -> Path:
    """Export an accepted candidate into `out`; the path of its model_new.py."""
    with open_ledger(path) as ledger:
        card = export_recorded(ledger, id, out)
    if "as fast as" not in card.headline:
        note(f"{card.candidate} is {card.headline}; exported because you name it")
    return Path(card.model)
