"""rocprofv3's database (rocpd, SQLite): its views `kernels` and those of counters.

Schema: ROCm, rocprofiler-sdk, source/share/rocprofiler-sdk-rocpd (data_views.sql); the names of the
columns changed between its versions, so each is looked for under all its names.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from epitaxy.errors import BadInput
from epitaxy.metric import Profile
from epitaxy.reader import Report
from epitaxy.readers import _rocprof

MAGIC = b"SQLite format 3\0"
MOST_STEPS = 200_000_000
"""Steps of SQLite's machine after which a query is given up: a database may hold any view."""
_COUNTERS = ("counters_collection", "kernel_pmc_events")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "kernel": ("kernel_name", "name"),
    "counter": ("counter_name", "pmc_name"),
    "value": ("pmc_value", "counter_value", "value"),
    "dispatch": ("dispatch_id",),
    "start": ("start",),
    "end": ("end",),
    "grid": ("grid_size", "grid_x"),
    "grid_y": ("grid_y",),
    "grid_z": ("grid_z",),
    "group": ("workgroup_size", "workgroup_x"),
    "group_y": ("workgroup_y",),
    "group_z": ("workgroup_z",),
    "LDS_Block_Size": ("lds_block_size", "lds_size"),
    "Scratch_Size": ("scratch_size",),
    "VGPR_Count": ("vgpr_count", "arch_vgpr_count"),
    "Accum_VGPR_Count": ("accum_vgpr_count",),
    "SGPR_Count": ("sgpr_count",),
}
_NEEDED = ("kernel", "counter", "value", "dispatch")


class Rocpd:
    """rocprofv3's SQLite database."""

    name = "rocpd"
    what = "rocprofv3 --pmc COUNTERS (results.db)"

    def recognises(self, report: Report) -> bool:
        """A SQLite file with rocpd's tables."""
        return report.head.startswith(MAGIC) and b"rocpd_" in report.head

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each dispatch with counters. Raises BadInput."""
        path = report.path.resolve().as_uri()
        try:
            database = sqlite3.connect(f"{path}?mode=ro&immutable=1", uri=True)
        except sqlite3.Error as error:
            raise BadInput(f"cannot open {report.path}: {error}", "copy it again") from None
        try:
            database.row_factory = sqlite3.Row
            database.set_progress_handler(lambda: 1, MOST_STEPS)
            return _read(report, database)
        except sqlite3.Error as error:
            raise BadInput(
                f"{report.path} cannot be read: {error}",
                "is it cut off? or convert it: rocpd convert",
            ) from None
        finally:
            database.close()


def plugin() -> Rocpd:
    """The reader."""
    return Rocpd()


def _read(report: Report, database: sqlite3.Connection) -> tuple[Profile, ...]:
    view = next((v for v in _COUNTERS if _columns(database, v)), "")
    columns = _columns(database, view) if view else ()
    found = {k: next((n for n in names if n in columns), "") for k, names in _NAMES.items()}
    missing = [k for k in _NEEDED if not found[k]]
    if missing:
        raise BadInput(
            f"{report.path}: no view of counters with {', '.join(missing)}",
            "collect counters with --pmc; a newer version may name its views otherwise",
        )
    chosen = ", ".join(f'"{name}" AS "{k}"' for k, name in found.items() if name)
    target, facts = _agent(database)
    dispatches: dict[int, tuple[sqlite3.Row, dict[str, float]]] = {}
    for row in database.execute(f'SELECT {chosen} FROM "{view}"'):
        _, counters = dispatches.setdefault(row["dispatch"], (row, {}))
        counters[row["counter"]] = counters.get(row["counter"], 0.0) + float(row["value"])
    return tuple(_profile(dict(r), c, facts, target) for r, c in dispatches.values())


def _columns(database: sqlite3.Connection, view: str) -> tuple[str, ...]:
    """Its columns; () where there is no such view."""
    return tuple(row["name"] for row in database.execute(f'PRAGMA table_info("{view}")'))


def _profile(
    row: Mapping[str, Any], counters: dict[str, float], facts: dict[str, float], target: str
) -> Profile:
    sizes = {
        "Grid_Size": _product(row, "grid"), "Workgroup_Size": _product(row, "group"),
    }  # fmt: skip
    attributes = {**sizes, **{n: row.get(n) for n in _rocprof.ATTRIBUTES if n not in sizes}}
    known = {name: float(value) for name, value in attributes.items() if value is not None}
    time_s = _rocprof.seconds(row.get("start") or 0, row.get("end") or 0)
    return _rocprof.profile(str(row["kernel"]), counters, known | facts, time_s, target)


def _product(row: Mapping[str, Any], name: str) -> float | None:
    """A size in work-items, of three axes where they are apart."""
    if row.get(name) is None:
        return None
    return float(row[name]) * (row.get(f"{name}_y") or 1) * (row.get(f"{name}_z") or 1)


def _agent(database: sqlite3.Connection) -> tuple[str, dict[str, float]]:
    """The GPU's target and facts, where the database tells them."""
    if "extdata" not in _columns(database, "rocpd_info_agent"):
        return "", {}
    row = database.execute(
        "SELECT name, extdata FROM rocpd_info_agent WHERE type = 'GPU'"
    ).fetchone()
    if row is None:
        return "", {}
    try:
        data = json.loads(row["extdata"] or "{}")
    except ValueError:
        data = {}
    names = ("cu_count", "num_xcc", "simd_per_cu", "max_waves_per_simd")
    return str(row["name"] or ""), {
        f"agent.{n}": float(data[n]) for n in names if isinstance(data.get(n), int)
    }
