"""Neuron Explorer's profile: a folder of Parquet tables, or its Summary.parquet.

Tables: aws-neuron-sdk, tools/neuron-explorer/profile-schema-reference.rst.
"""

from __future__ import annotations

from pathlib import Path

from epitaxy.errors import BadEnvironment, BadInput
from epitaxy.metric import Profile
from epitaxy.reader import Report
from epitaxy.readers import _neuron

_TABLE = "Summary"
MAGIC = b"PAR1"


class NeuronParquet:
    """Neuron Explorer's Parquet tables."""

    name = "neuron_parquet"
    what = "neuron-explorer view (the folder of Parquet files, or its Summary.parquet)"

    def recognises(self, report: Report) -> bool:
        """A Parquet file, or a folder with the table Summary."""
        return bool(_tables(report.path)) if report.is_folder else report.head.startswith(MAGIC)

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each row of Summary. Raises BadInput; BadEnvironment without pyarrow."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise BadEnvironment(
                f"{report.path} is Parquet, and pyarrow is not installed",
                "pip install 'epitaxy[neuron]'",
            ) from None
        files = _tables(report.path) if report.is_folder else [report.path]
        try:
            rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
        except (ArrowException, OSError) as error:
            why = " ".join(str(error).split())
            raise BadInput(f"{report.path} cannot be read: {why}", "is it cut off?") from None
        found = [r for r in rows if _neuron.is_row(r)]
        if not found:
            raise BadInput(
                f"{report.path} is no table Summary", f"name the folder, or {_TABLE}.parquet"
            )
        stem = report.path.name.removesuffix(".parquet")
        names = [stem] if len(found) == 1 else [f"{stem}[{n}]" for n in range(len(found))]
        return tuple(_neuron.profile(r, n) for r, n in zip(found, names, strict=True))


def plugin() -> NeuronParquet:
    """The reader."""
    return NeuronParquet()


def _tables(folder: Path) -> list[Path]:
    """The files of the table Summary: it may be split into numbered ones."""
    return sorted(p for p in folder.iterdir() if p.match(f"{_TABLE}*.parquet"))
