"""The README's table of toolchains, from `epitaxy doctor` and the recorded results.

    python benchmarks/readme_table.py          # look here; write toolchains.json and README
    python benchmarks/readme_table.py --check  # exit 1 when README and the recorded data differ

Run it where the extras are installed: what doctor finds here is what the table says.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README, FOUND = ROOT / "README.md", ROOT / "docs/results/toolchains.json"
RESULTS = ROOT / "docs/results/2026-11-21-chips-table.json"
BEGIN, END = "<!-- toolchains: made by benchmarks/readme_table.py -->\n", "<!-- /toolchains -->\n"
HEAD = ("toolchain", "builds for", "with", "correctness", "on record")
ORDER = ("measured", "checked", "simulated", "compiled")


def looked_at() -> list[dict[str, Any]]:
    """What doctor finds of every toolchain that kernels are grown for, and for which chips."""
    from epitaxy import doctor
    from epitaxy.chip_facts import load_all
    from epitaxy.errors import BadInput
    from epitaxy.plugin import plugins
    from epitaxy.porting import writer_of
    from epitaxy.toolchain import Crossing

    found = {r.name: r for r in doctor.examine()}
    rows = []
    for name in plugins("toolchains").names():
        toolchain = plugins("toolchains").get(name)
        try:
            writer_of(toolchain)
        except BadInput:  # nothing is grown for it
            continue
        row = found[f"toolchain {name}"]
        chips, how = ["this machine"], "run and timed here"
        if isinstance(toolchain, Crossing):
            chips = [c.id for c in load_all() if toolchain.targets(c)]
            how = toolchain.stand_in().name
        detail = row.detail.partition(";")[0] if row.ok else f"not here: {row.mend}"
        rows.append({"name": name, "ok": row.ok, "with": detail, "chips": chips, "how": how})
    return rows


def table(found: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in found:
        here = [c for c in cells if c["toolchain"] == row["name"]]
        counts = Counter(c["basis"] for c in here)
        said = [f"{counts[b]} {b}" for b in ORDER if counts[b]]
        record = f"{', '.join(said)}, of {len(here)}" if said else "nothing yet"
        cells_ = (f"`{row['name']}`", ", ".join(row["chips"]), row["with"], row["how"], record)
        lines.append("| " + " | ".join(cells_) + " |")
    return "\n".join(lines) + "\n"


def wanted(readme: str) -> str:
    """`readme` with the table of the recorded data."""
    found = json.loads(FOUND.read_text(encoding="utf-8"))
    cells = json.loads(RESULTS.read_text(encoding="utf-8"))
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(found, cells)}{END}{after}"


def main() -> int:
    """Write the data and the table, or look whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    readme = README.read_text(encoding="utf-8")
    if given.check:
        return int(wanted(readme) != readme)
    FOUND.write_text(json.dumps(looked_at(), indent=1) + "\n", encoding="utf-8")
    README.write_text(wanted(readme), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
