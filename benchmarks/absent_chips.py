"""Problems x chips that are not here: grown, built by the real compiler, checked on the CPU.

    python benchmarks/absent_chips.py [FILE...] [--chips h100_sxm,mi300x] [--budget 1]
        [--out docs/results/2026-11-21-absent-chips]

Writes OUT.json and OUT.md after every problem, keeping the lines of other problems and chips that
are there; what the ledger already holds is not judged again. No column is a time that a chip took.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epitaxy.commands.run import Options, search
from epitaxy.errors import EpitaxyError
from epitaxy.problem import load
from epitaxy.report import Run
from epitaxy.toolchains._occupancy import limiter
from epitaxy.verdict import BASES

PROBLEMS = (
    "examples/rmsnorm.py", "examples/softmax.py", "examples/layernorm_residual.py",
    "examples/cross_entropy.py", "examples/cumsum.py", "examples/gelu_chain.py",
    "examples/matmul_square.py", "examples/linear_gelu.py", "suites/level1/matmul_bf16.py",
    "suites/level2/linear_bf16_gelu.py", "suites/level2/causal_attention.py",
    "suites/level1/attention_gqa.py", "suites/level2/swiglu.py", "examples/frobenius_norm.py",
    "examples/masked_reverse_cumsum.py", "examples/argmax_columns.py",
)  # fmt: skip
COLUMNS = (
    ("problem", "problem"), ("chip", "chip"), ("basis", "basis"), ("of the limit", "error"),
    ("kernels", "kernels"), ("registers", "registers"), ("spilled B", "spilled"),
    ("local memory B", "shared"), ("occupancy", "occupancy"), ("limited by", "limiter"),
    ("instructions", "instructions"), ("matrix", "matrix"), ("flop/byte", "intensity"),
    ("predicted / floor", "predicted"),
)  # fmt: skip


def row(problem: str, chip: str, run: Run) -> dict[str, Any]:
    """One line of the table, from the best candidate or from why there is none."""
    made: dict[str, Any] = {"problem": problem, "chip": chip, "judged": len(run.judged)}
    if run.best is None:
        last = run.judged[-1][1] if run.judged else None
        return made | {"basis": last.status if last else "none", "why": last.reason if last else ""}
    candidate, verdict = run.best
    found = verdict.metrics
    worst = max((r.error / r.limit for r in verdict.errors), default=0.0)
    return made | {
        "basis": verdict.basis, "error": f"{worst:.0%}", "genome": candidate.genome,
        "kernels": int(found.get("launches", 0)), "registers": int(found.get("registers", 0)),
        "spilled": int(found.get("spill_bytes", 0)), "shared": int(found.get("shared_bytes", 0)),
        "occupancy": f"{found.get('occupancy', 0):.0%}", "limiter": limiter(found),
        "instructions": int(found.get("instructions", 0)),
        "matrix": int(found.get("matrix_instructions", 0)),
        "intensity": f"{found.get('intensity', 0):.3g}",
        "predicted": f"{found.get('predicted_cost', 0):.2f}",
        "distributions": len(verdict.errors), "candidate": candidate.id,
        "run_at": next((f.message for f in verdict.findings if f.check == "stand-in"), ""),
    }  # fmt: skip


def one(file: str, chip: str, options: Options) -> dict[str, Any]:
    """Search one problem for one chip; what cannot be done at all is a line too."""
    name = Path(file).stem
    try:
        run, _ = search(load(file), options)
    except EpitaxyError as error:
        return {"problem": name, "chip": chip, "basis": "none", "why": str(error), "judged": 0}
    return row(name, chip, run)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, with what the words mean."""
    head = [title for title, _ in COLUMNS]
    lines = [
        "# Chips that are not here", "",
        "Grown in Triton, built by the chip's own compiler, run on a CPU for correctness. Nothing "
        "was timed. Made by `python benchmarks/absent_chips.py`.", "",
        *(f"- *{name}*: {meaning}" for name, meaning in BASES.items() if name != "measured"),
        "- *of the limit*: the largest error over all input distributions, as a share of what is "
        "allowed against the float64 oracle",
        "- *predicted / floor*: a prediction from static metrics, for ranking candidates only",
        "", "|" + "|".join(head) + "|", "|" + "---|" * len(head),
    ]  # fmt: skip
    for made in rows:
        cells = [str(made.get(key, "")) for _, key in COLUMNS]
        lines.append("|" + "|".join(cells) + "|")
    reasons = [f"- {r['problem']} on {r['chip']}: {r['why']}" for r in rows if r.get("why")]
    done = sum(r["basis"] == "checked" for r in rows)
    lines += ["", f"{done} of {len(rows)} checked.", *reasons]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything, writing the table after each line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--chips", default="h100_sxm,mi300x")
    parser.add_argument("--budget", default="1")
    parser.add_argument("--out", type=Path, default=Path("docs/results/2026-11-21-absent-chips"))
    given = parser.parse_args()
    store = given.out.with_suffix(".json")
    rows = json.loads(store.read_text()) if store.exists() else []
    known = {(r["problem"], r["chip"]): r for r in rows}
    for file in given.files:
        for chip in given.chips.split(","):
            made = one(file, chip, Options(chip=chip, budget=given.budget))
            known[made["problem"], made["chip"]] = made
            rows = list(known.values())
            store.write_text(json.dumps(rows, indent=1) + "\n")
            given.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
