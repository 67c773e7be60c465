"""Lessons: what the ledger teaches, as short frozen records without sources.

    win        the best proven candidate of a problem on a machine, against its strongest baseline
    step       one move, from a parent to its child, both timed beside the same baseline
    dead end   a move after which nothing was accepted

They are computed from the ledger whenever they are asked for, and so never stale. A move is what
changed between the genomes of parent and child, or, without genomes, the child's line of intent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from epitaxy.facing import decisions
from epitaxy.ledger import Ledger
from epitaxy.lesson import SAME, Lesson, effect_of
from epitaxy.problem import Problem
from epitaxy.record import printable
from epitaxy.searching import operators as named_operators

LONGEST_MOVE = 200
ID = 12
"""Characters of a digest by which parents are named."""
MOST_CHANGES = 3
"""A step that changes more decisions than this teaches little about any of them."""
LAYOUT = frozenset(
    {
        *("view", "unsqueeze", "squeeze", "permute", "_to_copy", "select", "slice", "expand"),
        *("clone", "t", "transpose", "alias", "detach", "reshape", "arange", "zeros_like"),
        *("new_zeros", "full", "_unsafe_view", "unbind"),
    }
)
"""Operators that only name or move what is there."""


@dataclass(frozen=True)
class _Row:
    """One verdict with its candidate, as plain data."""

    digest: str
    candidate: Mapping[str, Any]
    verdict: Mapping[str, Any]


@dataclass
class _Place:
    """All verdicts of one problem on one machine, in time order."""

    problem: Problem
    chip: str
    rows: list[_Row] = field(default_factory=list)
    starts: dict[tuple[str, str], _Row] = field(default_factory=dict)
    by_id: dict[str, _Row] = field(default_factory=dict)

    def add(self, row: _Row) -> None:
        """Take in a verdict. The first candidate of each proposer and toolchain is what those
        without parents vary."""
        self.rows.append(row)
        self.starts.setdefault(_kin(row), row)
        self.by_id[row.digest[:ID]] = row


def distil(ledger: Ledger) -> list[Lesson]:
    """Every lesson of the ledger's own verdicts, oldest problem first."""
    problems = {p.digest: p for p in ledger.problems()}
    places: dict[tuple[str, str], _Place] = {}
    for digest, candidate, verdict in ledger.sketches():
        key = (verdict["problem"], verdict["machine"])
        if key not in places:
            fingerprint = ledger.machine(verdict["machine"])
            places[key] = _Place(problems[verdict["problem"]], chip_of(fingerprint))
        places[key].add(_Row(digest, candidate, verdict))
    known = captured(row.candidate for place in places.values() for row in place.rows)
    found = []
    for place in places.values():
        names = known.get(place.problem.digest) or sorted(named_operators(place.problem))
        found += [*_wins(place, names), *_merged([*_steps(place, names), *_dead(place, names)])]
    return found


def chip_of(fingerprint: Mapping[str, str]) -> str:
    """The chip of a machine: the one that it stands in for, or its processor and cores."""
    cores = f", {fingerprint['cores']} cores" if "cores" in fingerprint else ""
    return fingerprint.get("chip") or f"{fingerprint.get('cpu', 'unknown')}{cores}"


def plain(name: str) -> str:
    """`aten.mean.dim` as `mean`."""
    words = name.split("(")[0].strip().removeprefix("torch.ops.").split(".")
    return words[1] if words[0] == "aten" and len(words) > 1 else words[-1]


def captured(candidates: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Operators by problem, from what candidates say that they replace and leave."""
    found: dict[str, set[str]] = {}
    for candidate in candidates:
        listed = [x for r in candidate["regions"] for x in r.partition(": ")[2].split(", ")]
        names = {plain(x) for x in (*listed, *candidate["left"]) if x.strip()}
        found.setdefault(candidate["problem"], set()).update(names - LAYOUT)
    return {problem: sorted(names) for problem, names in found.items()}


def _about(place: _Place, row: _Row, names: list[str]) -> dict[str, Any]:
    """What every lesson of a row says."""
    problem, verdict = place.problem, row.verdict
    floor = verdict["floor"] or _floor(place)
    time_s, algebra = verdict["time_s"], verdict.get("algebra", 1.0)
    near = floor["time_s"] / algebra / time_s if floor and time_s else None
    return {
        "problem": problem.digest,
        "operators": tuple(names),
        "inputs": tuple(str(s) for s in problem.inputs if s is not None),
        "dtype": problem.work.dtype,
        "flops": problem.work.flops,
        "bytes": problem.work.bytes,
        "chip": place.chip,
        "toolchain": row.candidate["toolchain"],
        "condition": verdict.get("condition", "warm"),
        "threads": verdict.get("threads", 0),
        "plan": verdict["plan"],
        "bottleneck": floor["limit"] if floor else "",
        "of_limit": near,
        "evidence": verdict["digest"],
        "candidate": row.digest,
    }


def _floor(place: _Place) -> Any:
    return next((r.verdict["floor"] for r in place.rows if r.verdict["floor"]), None)


def _wins(place: _Place, names: list[str]) -> Iterator[Lesson]:
    """The best fully judged candidate of each toolchain that beats the strongest baseline."""
    best: dict[str, tuple[float, _Row, Any]] = {}
    for row in place.rows:
        rows = row.verdict["comparisons"]
        if row.verdict["plan"] != "full" or row.verdict["status"] != "accepted" or not rows:
            continue
        strongest = min(rows, key=lambda c: c["speedup"])
        toolchain = row.candidate["toolchain"]
        if strongest["outcome"] == "faster" and strongest["low"] > SAME:
            if strongest["speedup"] > best.get(toolchain, (0.0,))[0]:
                best[toolchain] = (strongest["speedup"], row, strongest)
    for ratio, row, strongest in best.values():
        base = place.starts.get(_kin(row))
        changes, touched = _changes(base, row) if base else ({}, ())
        told = ", ".join(f"{k} {v}" for k, v in changes.items())[:LONGEST_MOVE]
        yield Lesson(
            kind="win",
            move=f"from the first guess: {told}" if told else _intent(row),
            effect="helped",
            against=strongest["baseline"],
            ratio=ratio,
            low=strongest["low"],
            high=strongest["high"],
            algebra=row.verdict.get("algebra", 1.0),
            touched=touched,
            **_about(place, row, names),
        )


def _steps(place: _Place, names: list[str]) -> Iterator[Lesson]:
    """Moves whose parent and child were timed beside the same baseline under the same plan."""
    timed: dict[tuple[str, str], _Row] = {}
    for row in place.rows:
        if row.verdict["status"] == "accepted" and row.verdict["comparisons"]:
            timed[row.digest, row.verdict["plan"]] = row
    for (_, plan), row in timed.items():
        parent = _parent(place, row)
        before = timed.get((parent.digest, plan)) if parent else None
        move = _move(before, row) if before else None
        ratio = _ratio(before, row) if before else None
        if move is None or ratio is None:
            continue
        middle, low, high, baseline = ratio
        effect = effect_of(low, high)
        if effect:
            yield Lesson(
                kind="step",
                move=move[0],
                touched=move[1],
                effect=effect,
                against=f"its parent, beside {baseline}",
                ratio=middle,
                low=low,
                high=high,
                **_about(place, row, names),
            )


def _dead(place: _Place, names: list[str]) -> Iterator[Lesson]:
    """Moves after which a candidate failed, as it was judged last."""
    last = {row.digest: row for row in place.rows if row.verdict["status"] != "machine_fault"}
    for row in last.values():
        status = row.verdict["status"]
        if status in ("accepted", "unchecked"):
            continue
        parent = _parent(place, row)
        was = last.get(parent.digest) if parent else None
        if was is not None and _fate(was) == _fate(row):
            continue  # what failed before the move and in the same way is not the move's fault
        move = _move(parent, row) if parent else None
        yield Lesson(
            kind="dead end",
            move=move[0] if move else _intent(row),
            touched=move[1] if move else (),
            effect=status,
            reason=_reason(row.verdict),
            **_about(place, row, names),
        )


def _fate(row: _Row) -> tuple[str, str]:
    return row.verdict["status"], _reason(row.verdict)


def _reason(verdict: Mapping[str, Any]) -> str:
    """Why it failed in words of our own: a check, or kind of inputs; no text of its making."""
    refusal = next((f["check"] for f in verdict["findings"] if f["severity"] == "refusal"), "")
    over = [e["distribution"] for e in verdict["errors"] if not _within(e)]
    if verdict["status"] == "incorrect" and over:
        return f"on {over[0]} inputs"
    return f"by the check {refusal}" if refusal else ""


def _within(row: Mapping[str, Any]) -> bool:
    error = row["error"]
    return isinstance(error, int | float) and error <= row["limit"]


def _kin(row: _Row) -> tuple[str, str]:
    return row.candidate["proposer"], row.candidate["toolchain"]


def _parent(place: _Place, row: _Row) -> _Row | None:
    """The first parent of a candidate; without any, the first candidate of its kind."""
    parents = row.candidate["parents"]
    if not parents:
        start = place.starts[_kin(row)] if row.candidate["genome"] else None
        return start if start is not None and start.digest != row.digest else None
    return place.by_id.get(parents[0][:ID])


def _move(before: _Row, after: _Row) -> tuple[str, tuple[str, ...]] | None:
    """What changed, and the operators that it concerns; None where too much did to teach."""
    if not before.candidate["genome"] or not after.candidate["genome"]:
        return _intent(after), ()
    changes, touched = _changes(before, after)
    if not 0 < len(changes) <= MOST_CHANGES:
        return None
    return ", ".join(f"{name} {change}" for name, change in changes.items()), touched


def _changes(before: _Row, after: _Row) -> tuple[dict[str, str], tuple[str, ...]]:
    """Decisions that differ, and the operators of their regions. Regions are not named: their
    numbers mean nothing elsewhere."""
    found = decisions(before.candidate["genome"], after.candidate["genome"])
    regions = dict(r.partition(": ")[::2] for r in after.candidate["regions"])
    named: dict[str, str] = {}
    touched: set[str] = set()
    for place, change in found.items():
        region, _, decision = place.partition(" ")
        named[decision] = change
        touched |= {plain(x) for x in regions.get(region, "").split(", ") if x}
    return named, tuple(sorted(touched - LAYOUT))


def _intent(row: _Row) -> str:
    text = printable(row.candidate["intent"]).partition("; rewritten:")[0]
    return " ".join(text.split())[:LONGEST_MOVE] or "not said"


def _ratio(before: _Row, after: _Row) -> tuple[float, float, float, str] | None:
    """How many times faster, at least and at most so, and the baseline that both ran beside.

    Times of different hours do not compare, ratios to the same baseline do. The interval holds
    whenever both of theirs do: 98 % where each is one of 99 %.
    """
    theirs = {c["baseline"]: c for c in before.verdict["comparisons"]}
    shared = [c for c in after.verdict["comparisons"] if c["baseline"] in theirs]
    if not shared:
        return None
    own = min(shared, key=lambda c: c["high"] / c["low"])
    was = theirs[own["baseline"]]
    if min(own["low"], was["low"]) <= 0:
        return None
    middle = own["speedup"] / was["speedup"]
    return middle, own["low"] / was["high"], own["high"] / was["low"], own["baseline"]


def _merged(found: Iterable[Lesson]) -> Iterator[Lesson]:
    """Equal moves as one lesson, whose evidence is the sharpest, with how often it was seen."""
    groups: dict[tuple[Any, ...], list[Lesson]] = {}
    for one in found:
        place = (one.problem, one.chip, one.toolchain, one.condition, one.threads)
        groups.setdefault((*place, one.move, one.touched), []).append(one)
    for group in groups.values():
        for effect in dict.fromkeys(one.effect for one in group):
            same = [one for one in group if one.effect == effect]
            best = min(same, key=lambda one: (one.high or 1.0) / (one.low or 1.0))
            yield best.replace(times=len(same), contrary=len(group) - len(same))
