"""Figures of a whole suite: a row for each problem, means, fast_p. From records alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SCHEMA = 2
THRESHOLDS = (0.0, 1.0, 1.5, 2.0, 3.0)
"""p of fast_p: the share of problems that are correct and more than p times as fast."""
FASTER, LEFT, ERROR = "faster", "left to the framework", "error"
PARTIES: Mapping[str, tuple[str, ...]] = {
    "eager": ("eager",),
    "torch.compile": ("compile",),
    "max-autotune, MKL's fast path": ("max_autotune+mkl", "max_autotune"),
    "the best of all": (),
}
"""What means are taken against: the first of these baselines that a problem was timed with."""
BEST = "the best of all"
PHASES = ("capture", "baselines", "search", "final")
"""Where the seconds of a problem go."""

ALGEBRA = 1.1
"""From this gain on (`Verdict.algebra`) a win is listed as one of algebra."""

Row = Mapping[str, Any]


def row_of(document: Mapping[str, Any], level: str = "") -> dict[str, Any]:
    """One row from a verdict document (`report.verdict_json`); times in seconds.

    `ratios` holds the paired speed-up over each baseline, of the best candidate as it was judged.
    """
    names = ("time_s", "floor_s", "of_limit", "speedup", "low", "high", "outcome", "stop_reason")
    verdict = document.get("verdict") or {}
    won = document["outcome"] == FASTER
    return {
        "problem": document["problem"]["name"],
        "level": level,
        "status": FASTER if won else LEFT,
        "reason": "" if won else document["headline"],
        "baselines": document["baselines"],
        "ratios": {c["baseline"]: c["speedup"] for c in verdict.get("comparisons", ())},
        "strongest": document["strongest"],
        "algebra": is_algebra(document),
        "silicon": document.get("silicon"),
        "left": (document.get("candidate") or {}).get("left", []),
        "judged": document["judged"]["total"],
        "seconds": document.get("seconds", {}),
        "scale": document.get("scale", []),
        **{name: document[name] for name in names},
    }


def empty_row(name: str, level: str, status: str, reason: str) -> dict[str, Any]:
    """The row of a problem without a judged candidate: `status` is LEFT or ERROR."""
    nothing = dict.fromkeys(("time_s", "floor_s", "of_limit", "speedup", "low", "high", "silicon"))
    return {
        "problem": name, "level": level, "status": status, "reason": reason, "baselines": {},
        "ratios": {}, "strongest": None, "algebra": False, "left": [], "judged": 0, "seconds": {},
        "scale": [], "outcome": "none accepted", "stop_reason": "", **nothing,
    }  # fmt: skip


def is_algebra(document: Mapping[str, Any]) -> bool:
    """Whether the best candidate does less work than the reference: no win of silicon alone."""
    findings = (document.get("verdict") or {}).get("findings", ())
    gain = document.get("algebra") or 1.0
    return gain >= ALGEBRA or any(f["check"] == "algebra" for f in findings)


def ratio(row: Row, party: str) -> float | None:
    """The speed-up of a row's candidate over one of PARTIES; None where it was not timed."""
    if party == BEST:
        return row["speedup"]  # type: ignore[no-any-return]
    ratios = row["ratios"]
    return next((ratios[name] for name in PARTIES[party] if name in ratios), None)


def handed_back(row: Row, party: str) -> float | None:
    """The same for what the user gets: a problem left to the framework counts as 1."""
    if row["status"] == ERROR:
        return None
    return ratio(row, party) if row["status"] == FASTER else 1.0


def allowed(row: Row, party: str) -> float | None:
    """The ratio that a kernel at the floor would have: no kernel's is larger."""
    judged, share = ratio(row, party), row["of_limit"]
    return judged / share if judged and share else None


def tabulate(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows with means, fast_p, the worst ratio, and the seconds spent."""
    silicon = [r for r in rows if not r["algebra"]]
    judged = [r for r in rows if r["speedup"]]
    worst = min(judged, key=lambda r: r["speedup"], default=None)
    return {
        "schema": SCHEMA,
        "rows": list(rows),
        "count": {
            "problems": len(rows),
            "judged": len(judged),
            **{s: sum(r["status"] == s for r in rows) for s in (FASTER, LEFT, ERROR)},
            "algebra": len(rows) - len(silicon),
        },
        "means": {
            party: {
                "as judged, without algebra": _mean(silicon, party, ratio),
                "as judged": _mean(rows, party, ratio),
                "handed back, without algebra": _mean(silicon, party, handed_back),
                "the floor allows": _mean(silicon, party, allowed),
            }
            for party in PARTIES
        },
        "geometric_mean": _mean(silicon, BEST, ratio)["mean"],
        "fast_p": {p: _fast(rows, p) for p in ("eager", BEST)},
        "worst": {"problem": name_of(worst), "speedup": worst["speedup"]} if worst else None,
        "seconds": {
            phase: sum(r["seconds"].get(phase, 0.0) for r in rows) for phase in PHASES
        },
    }  # fmt: skip


def name_of(row: Row) -> str:
    """`level1/softmax`."""
    return f"{row['level']}/{row['problem']}" if row["level"] else str(row["problem"])


def _mean(
    rows: Sequence[Row], party: str, of: Callable[[Row, str], float | None]
) -> dict[str, Any]:
    """Geometric mean over the rows that have a ratio, and how many those are."""
    found = [x for r in rows if (x := of(r, party))]
    return {"mean": mean_ratio(found) if found else None, "problems": len(found)}


def mean_ratio(ratios: Sequence[float]) -> float:
    """The geometric mean of ratios, of which there is at least one."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _fast(rows: Sequence[Row], party: str) -> dict[str, float]:
    found = won_ratios(rows, party)
    return {f"{p:g}": sum(x > p for x in found) / len(rows) for p in THRESHOLDS} if rows else {}


def won_ratios(rows: Sequence[Row], party: str) -> list[float]:
    """Ratios of all correct candidates, the least first."""
    return sorted(x for r in rows if (x := ratio(r, party)))
