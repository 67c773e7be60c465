"""A port's report: original and port side by side, and what moving costs and wins.

Floors are rooflines and no times; a time is shown of a kernel that was measured on its chip alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.compare import UNKNOWN, Standing, seconds, standing
from epitaxy.porting import Moved
from epitaxy.proposers._carry import OWN, UNLIKE
from epitaxy.report_page import code_style, filled, highlight
from epitaxy.verdict import BASES, Verdict

CARRY_HEADER = ("region", "original", "port", "", "why")
NOTHING = "–"
COMPARED = ("predicted_cost", "occupancy", "registers", "spill_bytes", "shared_bytes",
            "matrix_instructions", "launches", "instructions", "vmem_bytes", "bytes_moved",
            "bundles", "sbuf_partition_bytes", "psum_partition_bytes", "intensity")  # fmt: skip
"""Static metrics that stand first; the others follow by name."""


@dataclass(frozen=True)
class Side:
    """A kernel on its chip: `candidate` and `verdict` are None where there is none."""

    toolchain: str
    standing: Standing
    candidate: Candidate | None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on it."""
        return self.standing.best

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        made, judged = self.candidate, self.verdict
        return {
            "toolchain": self.toolchain,
            "chip": self.standing.to_dict(),
            "candidate": {"id": made.id, "digest": made.digest, **made.to_dict()} if made else None,
            "verdict": judged.to_dict() if judged else None,
            "notes": list(self.notes),
        }


def sides(moved: Moved) -> tuple[Side, Side]:
    """The original and its port."""
    its = moved.original
    found = moved.best or (None, None)
    left = Side(
        its.candidate.toolchain, standing(its.problem, its.chip, best=its.verdict), its.candidate,
        its.notes,
    )  # fmt: skip
    right = Side(
        moved.toolchain,
        standing(its.problem, moved.chip, best=found[1]),
        found[0],
        _failures(moved),
    )
    return left, right


def _failures(moved: Moved) -> tuple[str, ...]:
    notes = [f"{ops} stays with PyTorch: {why}" for ops, why in moved.refused.items()
             if moved.best and set(ops.split(", ")) & set(moved.best[0].left)]  # fmt: skip
    for candidate, verdict in moved.judged:
        if not verdict.accepted:
            notes.append(f"{candidate.id} {verdict.status}: {verdict.reason}")
    if moved.best is not None and moved.first:
        same = moved.best[0].id == moved.first
        own = "it has the original's tiling" if same else "another tiling than the original's won"
        if moved.carried and all(c.outcome in (UNLIKE, OWN) for c in moved.carried):
            own = "nothing of the original's tiling has a like here: the target's own was taken"
        notes.append(own)
    return tuple(notes)


def headline(moved: Moved) -> str:
    """The port in one line."""
    left, right = sides(moved)
    state = right.verdict.basis if right.verdict else "nothing was accepted"
    both = f"{left.toolchain} on {left.standing.chip.name} to {right.toolchain} on "
    return f"{moved.original.problem.name}: {both}{right.standing.chip.name}: {state}"


def moving(moved: Moved) -> str:
    """What moving costs and wins, at the floors of both chips."""
    left, right = (s.standing for s in sides(moved))
    if left.floor is None or right.floor is None:
        return f"the floors cannot be compared: {left.unknown or right.unknown}"
    text = f"the floor goes from {seconds(left.floor.time_s)} to {seconds(right.floor.time_s)}"
    text += f" ({_times(right.floor.time_s, left.floor.time_s)} the time)"
    if left.energy_j is None or right.energy_j is None:
        who = left if left.energy_j is None else right
        return f"{text}; joules cannot be compared: the power of {who.chip.name} is not known"
    ratio = _times(right.energy_j, left.energy_j)
    return (
        f"{text}, from {_joules(left.energy_j)} to {_joules(right.energy_j)} ({ratio} the energy)"
    )


def _times(new: float, old: float) -> str:
    return f"{new / old:.2f} times" if old else "unknown times"


def _joules(joule: float | None) -> str:
    return f"{joule * 1e3:.3g} mJ" if joule is not None else UNKNOWN


def rows(moved: Moved, every: bool = True) -> list[tuple[str, str, str]]:
    """Original and port side by side: (what, original, port); of the static metrics `every` one,
    or the chief ones."""
    pair = sides(moved)
    named = [_facts(side) for side in pair]
    metrics = [side.verdict.metrics if side.verdict else {} for side in pair]
    names = [n for n in COMPARED if any(n in m for m in metrics)]
    names += sorted({n for m in metrics for n in m} - set(names)) if every else []
    found = [(name, named[0][name], named[1][name]) for name in named[0]]
    for name in names:
        cells = [f"{m[name]:.4g}" if name in m else NOTHING for m in metrics]
        found.append((name.replace("_", " "), cells[0], cells[1]))
    return found


def _facts(side: Side) -> dict[str, str]:
    it, made, judged = side.standing, side.candidate, side.verdict
    worst = max((r.error / r.limit for r in judged.errors if r.limit), default=0.0) if judged else 0
    timed = judged is not None and judged.time_s is not None
    return {
        "written for": side.toolchain,
        "chip": f"{it.chip.name} ({'measured' if it.chip.measured else 'datasheet'})",
        "kernel": f"{made.id}, by {made.proposer}" if made else "none was accepted",
        "basis": f"{judged.basis}: {BASES[judged.basis]}" if judged else "not judged",
        "status": judged.status if judged else NOTHING,
        "error, of what is allowed": f"{worst:.0%}" if judged and judged.errors else NOTHING,
        "time": seconds(judged.time_s) if timed and judged and judged.time_s else "not timed",
        "floor": seconds(it.floor.time_s) if it.floor else UNKNOWN,
        "limited by": it.floor.limit if it.floor else it.unknown,
        "at full power": _joules(it.energy_j),
        "left with PyTorch": (", ".join(made.left) or "nothing") if made else NOTHING,
    }


def carried_rows(moved: Moved) -> list[tuple[str, ...]]:
    """Cells under CARRY_HEADER."""
    return [(c.region, c.said or NOTHING, c.used or NOTHING, c.outcome, c.why)
            for c in moved.carried]  # fmt: skip


def to_dict(moved: Moved) -> dict[str, Any]:
    """The whole report as plain data."""
    left, right = sides(moved)
    return {
        "problem": moved.original.problem.name,
        "headline": headline(moved),
        "moving": moving(moved),
        "original": left.to_dict(),
        "port": right.to_dict(),
        "carried": [vars(c) for c in moved.carried],
        "judged": len(moved.judged),
    }


def html(moved: Moved) -> str:
    """One page that opens offline: inline style, no script."""
    left, right = sides(moved)
    return filled(
        "port.html.j2",
        headline=headline(moved), moving=moving(moved), rows=rows(moved),
        titles=[left.toolchain, right.toolchain], carry_header=CARRY_HEADER,
        carried=carried_rows(moved), notes=[left.notes, right.notes],
        sources=[_shown(left.candidate), _shown(right.candidate)],
        name=moved.original.problem.name, code_style=code_style(),
    )  # fmt: skip


def _shown(candidate: Candidate | None) -> Sequence[tuple[str, Any]]:
    files = candidate.files.items() if candidate else ()
    return [(n, highlight(n, t)) for n, t in files if "/" not in n]
