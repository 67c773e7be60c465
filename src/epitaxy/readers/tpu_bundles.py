"""libtpu's compiler dumps: `final_bundles.txt` and the table of slots beside it.

Written with LIBTPU_INIT_ARGS=--xla_jf_dump_to=FOLDER as <time>-<program>-<pass>-<what>.txt.
"""

from __future__ import annotations

import re
from pathlib import Path

from epitaxy.errors import BadInput
from epitaxy.metric import Profile, metrics_of
from epitaxy.reader import MOST_BYTES, Report

_LISTING = re.compile(r"^(?:\d+-)?(?P<program>.+?)-(?P<step>\d+)-final_bundles\.txt$")
_TABLE = re.compile(
    r"^(?:\d+-)?(?P<program>.+?)-(?P<step>\d+)-final_hlo-static-per-bundle-utilization\.txt$"
)
_SKIPPED = re.compile(r"schedule-analysis|<?late-(initiali[sz]ation|finali[sz]ation)>?")
_NOTE = "static counts: no loop is weighed by how often it runs, and there is no time"


class TpuBundles:
    """libtpu's dumps of instruction bundles."""

    name = "tpu_bundles"
    what = "LIBTPU_INIT_ARGS=--xla_jf_dump_to=FOLDER (name the folder, or one of its two files)"

    def recognises(self, report: Report) -> bool:
        """By the files' names."""
        if not report.is_folder:
            return bool(_LISTING.match(report.path.name) or _TABLE.match(report.path.name))
        return any(_LISTING.match(p.name) or _TABLE.match(p.name) for p in report.path.iterdir())

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each program, of the last pass that left a listing. Raises BadInput."""
        folder = report.path if report.is_folder else report.path.parent
        listings, tables = _last(folder, _LISTING), _last(folder, _TABLE)
        programs = sorted({*listings, *tables})
        if not report.is_folder:
            match = _LISTING.match(report.path.name) or _TABLE.match(report.path.name)
            programs = [match["program"]] if match else []
        found = [_profile(p, listings.get(p), tables.get(p)) for p in programs]
        return tuple(p for p in found if p is not None)


def plugin() -> TpuBundles:
    """The reader."""
    return TpuBundles()


def _last(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    """The file of each program's last pass."""
    found: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.match(path.name)
        if match and not _SKIPPED.search(path.name):
            step = int(match["step"])
            if step >= found.get(match["program"], (-1, path))[0]:
                found[match["program"]] = (step, path)
    return {program: path for program, (_, path) in found.items()}


def _profile(program: str, listing: Path | None, table: Path | None) -> Profile | None:
    from epitaxy.toolchains import _bundles

    values: dict[str, float] = {}
    if listing is not None:
        values |= _bundles.counts(_text(listing), 1.0)
        values.pop("bundles_run")
    if table is not None:
        text = _text(table)
        values |= _bundles.slots(text) | _bundles.capacities(text)
        rows = text.partition("UTILIZATION")[2].split("\n")[1:]
        values["bundles"] = float(sum(bool(x.strip()) for x in rows))
    if not values.get("bundles"):
        return None
    return Profile(
        kernel=program, family="tpu", source="libtpu", notes=(_NOTE,),
        metrics=metrics_of(values, "libtpu", "static."),
    )  # fmt: skip


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", "compile again") from None
