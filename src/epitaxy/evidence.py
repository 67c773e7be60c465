"""Evidence: a problem, a candidate, its verdict and its profile as a file holds them, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.metric import Profiled
from epitaxy.problem import Problem
from epitaxy.verdict import Verdict

PARTS = ("problem", "candidate", "verdict")


@dataclass(frozen=True)
class Evidence:
    """What belongs together: the verdict is on the candidate, which is for the problem, and the
    profile was taken of it on the verdict's machine."""

    problem: Problem
    candidate: Candidate
    verdict: Verdict
    profiled: Profiled | None = None


def read(data: Any, where: object) -> Evidence:
    """The evidence in `data`, as JSON holds it. Raises BadInput, which names the file `where`."""
    try:
        parts = {name: dict(data[name]) for name in PARTS}
        if data.get("profiled"):
            parts["profiled"] = dict(data["profiled"])
        digests = {k: v.pop("digest", None) for k, v in parts.items()} | data.get("digests", {})
        for part in parts.values():
            part.pop("id", None)  # a verdict.json's own addition
        found = Evidence(
            problem=Problem.from_dict(parts["problem"]),
            candidate=Candidate.from_dict(parts["candidate"]),
            verdict=Verdict.from_dict(parts["verdict"]),
            profiled=Profiled.from_dict(parts["profiled"]) if "profiled" in parts else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EpitaxyError):
        raise BadInput(
            f"{where} holds no problem, candidate and verdict", "give a verdict.json or an export"
        ) from None
    _check(found, digests, where)
    return found


def _check(found: Evidence, digests: Mapping[str, str | None], where: object) -> None:
    for name in (*PARTS, "profiled"):
        held = getattr(found, name)
        if held is not None and digests.get(name) not in (None, held.digest):
            raise BadInput(f"the {name} in {where} was edited", "take it from the ledger again")
    of = (found.candidate.digest, found.problem.digest)
    verdict, profiled = found.verdict, found.profiled
    if (verdict.candidate, verdict.problem) != of:
        raise BadInput(f"the verdict in {where} is on something else", "take it from the ledger")
    if profiled is None:
        return
    if (profiled.candidate, profiled.problem) != of:
        raise BadInput(f"the profile in {where} is of something else", "export it again")
    if profiled.machine != verdict.machine:
        raise BadInput(f"the profile in {where} is of another machine", "export it again")
