"""What libtpu's dump says of one kernel: bundles, slots used, spills, matrix instructions."""

from __future__ import annotations

import re
from pathlib import Path

_BUNDLE = re.compile(r"\s*(?:0x)?[0-9a-f]+\s+(?:[A-Z]{2})?\s*:\s*((?:> ?)*)\{")


def kernel(dump: Path, name: str, steps: float) -> dict[str, float]:
    """Metrics of the kernel called `name` with a grid of `steps`; empty where nothing was dumped.

    `bundles_run` is the number of bundles in loops times the steps of the grid, whose loop is the
    outermost: a static count, of loops within loops no bound.
    """
    text = _last(dump, name, "final_bundles.txt")
    if not text:
        return {}
    table = _last(dump, name, "final_hlo-static-per-bundle-utilization.txt")
    return counts(text, steps) | slots(table)


def counts(text: str, steps: float) -> dict[str, float]:
    """Bundles and matrix instructions of the listing in `final_bundles.txt`."""
    marks = [m[1].count(">") for m in map(_BUNDLE.match, text.splitlines()) if m]
    inside = sum(1 for depth in marks if depth)
    return {
        "bundles": float(len(marks)),
        "bundles_run": float(inside * steps),
        "matrix_instructions": float(len(re.findall(r"\bvmatmul", text))),
    }


def _last(dump: Path, name: str, kind: str) -> str:
    """The last file of that kind; "" when there is none."""
    files = [p for p in dump.glob(f"*-{name}.*-{kind}") if "schedule-analysis" not in p.name]
    return max(files).read_text(encoding="utf-8", errors="replace") if files else ""


def slots(text: str) -> dict[str, float]:
    """Slots used of each unit, and spills, from the table of units by bundle."""
    lines = text.splitlines()
    start = next((n for n, x in enumerate(lines) if "UTILIZATION" in x), 0)
    if not start or len(lines) < 3:
        return {}
    names = [x.strip() for x in lines[1].split(",")]
    rows = [list(map(int, x.split())) for x in lines[start + 1 :] if x.strip()]
    used = {n: float(sum(r[k] for r in rows)) for k, n in enumerate(names)}
    found = {f"slots_{_plain(n)}": v for n, v in used.items() if v}
    return found | {
        "spills": used.get("VSTORE:SPILL", 0.0), "fills": used.get("VLOAD:FILL", 0.0),
    }  # fmt: skip


def capacities(text: str) -> dict[str, float]:
    """How many slots a bundle has of each unit, from the same table; empty where it is cut off."""
    lines = text.splitlines()
    if len(lines) < 3 or not all(x.isdigit() for x in lines[2].split()):
        return {}
    names = [_plain(x) for x in lines[1].split(",")]
    return {f"capacity_{n}": float(x) for n, x in zip(names, lines[2].split(), strict=False)}


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")
