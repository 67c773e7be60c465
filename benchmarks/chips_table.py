"""Problems x chips in one table: correct, built, and on what each verdict rests.

    python benchmarks/chips_table.py [FILE...] [--chips h100_sxm,mi300x,tpu_v6e,trainium2,local]
        [--tries 3] [--plan full] [--again] [--take FILE] [--out PATH]

Each cell is one kernel, grown for that chip: built by its own compiler and run on this machine's
CPU under the toolchain's stand-in, on all input distributions against the float64 oracle; on
`local` it runs on this machine itself. OUT.json and OUT.md are written after every cell; one that
is there is not run again. No column is a time. Needs what the chips need in one environment:
pip install 'epitaxy[triton,tpu,trainium]'.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epitaxy.checked import judge_for
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.ledger import Judged
from epitaxy.porting import chip_for, machine_for, toolchain_named
from epitaxy.problem import Problem, load
from epitaxy.record import FrozenDict
from epitaxy.study import Study, create_study
from epitaxy.verdict import BASES

PROBLEMS = (
    "examples/rmsnorm.py", "examples/softmax.py", "examples/layernorm_residual.py",
    "examples/gelu_chain.py", "examples/groupnorm_swish.py", "examples/cumsum.py",
    "examples/matmul_square.py", "examples/matmul_tall.py", "examples/matmul_batched.py",
    "examples/linear_gelu.py", "examples/linear_relu_residual.py", "examples/matrix_vector.py",
    "examples/causal_attention.py",
)  # fmt: skip
TOOLCHAINS = FrozenDict(
    h100_sxm="triton_nvidia", h200_sxm="triton_nvidia", mi300x="triton_amd", mi325x="triton_amd",
    tpu_v6e="pallas_tpu", trainium2="nki_trainium", local="cpp",
)  # fmt: skip
CHIPS = "h100_sxm,mi300x,tpu_v6e,trainium2,local"
GOOD = ("measured", "checked", "simulated")


def cell(file: str, chip: str, tries: int, plan: str) -> dict[str, Any]:
    """One kernel of one problem for one chip, or why there is none."""
    made = {"problem": Path(file).stem, "chip": chip, "toolchain": TOOLCHAINS[chip]}
    start_s = time.monotonic()
    try:
        problem = load(file)
        found = kernel(problem, chip, tries, plan)
    except EpitaxyError as error:
        return made | {"basis": "none", "why": error.message}
    candidate, verdict = found
    made |= {"candidate": candidate.id, "status": verdict.status, "left": list(candidate.left)}
    if not verdict.accepted:
        return made | {"basis": "none", "why": f"{verdict.status}: {verdict.reason}"}
    notes = [f.message for f in verdict.findings if f.check == "stand-in"]
    return made | {
        "basis": verdict.basis, "plan": verdict.plan, "distributions": len(verdict.errors),
        "error": max((r.error / r.limit for r in verdict.errors if r.limit), default=0.0),
        "genome": candidate.genome, "run_at": notes[0] if notes else "",
        "metrics": {k: v for k, v in verdict.metrics.items() if k != "build_s"} if chip != "local"
        else {}, "seconds": round(time.monotonic() - start_s),
    }  # fmt: skip


def kernel(problem: Problem, chip: str, tries: int, plan: str) -> Judged:
    """The first of up to `tries` kernels that is accepted, or the last one."""
    toolchain = toolchain_named(TOOLCHAINS[chip])
    machine = machine_for(toolchain, chip_for(toolchain, "" if chip == "local" else chip))
    study = create_study(problem, machine=machine, budget=tries)
    known = [p for p in study.known.values() if p[1].accepted and p[1].plan in (plan, "full")]
    if known:
        return known[-1]
    # Nothing is timed against them here, and the strongest take minutes to prepare.
    few = {"baselines": ("eager",)} if getattr(machine, "clock", True) else {}
    with contextlib.closing(judge_for(machine)(problem, machine, **few)) as judge:  # type: ignore[arg-type]
        return _tried(study, judge, tries, plan)


def _tried(study: Study, judge: Any, tries: int, plan: str) -> Judged:
    last: Judged | None = None
    for _ in range(tries):
        for candidate in study.ask(1):
            verdict = judge.judge(candidate, plan)
            study.tell(candidate, verdict)
            last = candidate, verdict
            if verdict.accepted:
                return last
    if last is None:
        raise BadInput(study.proposer.stop_reason() or "the proposer has no more", "look at why")
    return last


def taken(file: Path) -> list[dict[str, Any]]:
    """The cells that `absent_chips.py` recorded in `file`, as cells of this table."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    found = []
    for row in rows:
        if row["basis"] not in GOOD or row["chip"] not in TOOLCHAINS:
            continue
        kept = {k: row[k] for k in ("problem", "chip", "basis", "candidate", "genome", "run_at",
                                    "distributions")}  # fmt: skip
        error = float(row["error"].rstrip("%")) / 100
        own = {"toolchain": TOOLCHAINS[row["chip"]], "error": error, "plan": "full"}
        found.append(kept | own | {"recorded": file.name})
    return found


def table(cells: Sequence[dict[str, Any]], names: Sequence[str] = ()) -> str:
    """The cells as Markdown, with what the words mean; `names` are problems that shall be there."""
    chips = list(dict.fromkeys(c["chip"] for c in cells))
    problems = list(dict.fromkeys([*names, *(c["problem"] for c in cells)]))
    known = {(c["problem"], c["chip"]): c for c in cells}
    lines = [
        f"# {len(problems)} problems on {len(chips)} chips", "",
        "Each cell: on what the verdict on a kernel of ours rests, and the largest error over all "
        "input distributions as a share of what is allowed against the float64 oracle. Made by "
        "`python benchmarks/chips_table.py`; nothing here is a time.", "",
        *(f"- *{name}*: {BASES[name]}" for name in GOOD),
        "", "|problem|" + "|".join(f"{c} ({TOOLCHAINS.get(c, '')})" for c in chips) + "|",
        "|---|" + "---|" * len(chips),
    ]  # fmt: skip
    for problem in problems:
        row = [_said(known.get((problem, chip))) for chip in chips]
        lines.append(f"|{problem}|" + "|".join(row) + "|")
    done = {b: sum(c["basis"] == b for c in cells) for b in GOOD}
    lines += ["", f"{sum(done.values())} of {len(cells)} cells hold a kernel: "
              + ", ".join(f"{n} {b}" for b, n in done.items() if n) + "."]  # fmt: skip
    absent = len(problems) * len(chips) - len(cells)
    lines += [f"{absent} cells are not run yet: the same command goes on with them."] * bool(absent)
    missing = [c for c in cells if c["basis"] not in GOOD]
    lines += [f"- {c['problem']} on {c['chip']}: {c['why']}" for c in missing]
    plans = {p: sum(c.get("plan") == p for c in cells) for p in ("full", "screen")}
    lines += ["", f"Plan of the judge: full in {plans['full']} cells, screen in {plans['screen']} "
              "(the same distributions, without fences and other weights)."]  # fmt: skip
    if done["measured"]:
        lines += ["", "Measured cells were judged against eager alone, and other work ran beside "
                  "them: what they computed counts here, their times do not."]  # fmt: skip
    reduced = [c for c in cells if c.get("run_at")]
    if reduced:
        lines += ["", f"In {len(reduced)} cells the sizes are more than an interpreter can bear: "
                  "the kernel was built at its own sizes and run at smaller ones, with the same "
                  "text but for numbers. The sizes stand in the JSON file."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _said(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "not run"
    if cell["basis"] not in GOOD:
        return "none"
    rest = ", with PyTorch" if cell.get("left") else ""
    return f"{cell['basis']} {cell['error']:.0%}{rest}"


def main() -> None:
    """Run what is missing, writing the table after each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--chips", default=CHIPS)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--plan", default="full", choices=("screen", "full"))
    parser.add_argument("--again", action="store_true", help="run cells that are there, too")
    parser.add_argument("--take", type=Path, help="cells that absent_chips.py recorded")
    parser.add_argument("--out", type=Path, default=Path("docs/results/2026-11-21-chips-table"))
    given = parser.parse_args()
    store = given.out.with_suffix(".json")
    cells = json.loads(store.read_text(encoding="utf-8")) if store.exists() else []
    cells = [*(taken(given.take) if given.take else []), *cells]
    names = {Path(f).stem for f in given.files}
    known = {(c["problem"], c["chip"]): c for c in cells if c["problem"] in names}
    wanted = [(f, c) for f in given.files for c in given.chips.split(",")]
    for file, chip in wanted:
        key = Path(file).stem, chip
        if given.again or known.get(key, {}).get("basis", "none") not in GOOD:
            known[key] = cell(file, chip, given.tries, given.plan)
            print(
                f"{key[0]} on {chip}: {_said(known[key])} {known[key].get('why', '')}", flush=True
            )
        order = {(Path(f).stem, c): n for n, (f, c) in enumerate(wanted)}
        cells = sorted(known.values(), key=lambda c: order.get((c["problem"], c["chip"]), 1 << 30))
        store.write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
        text = table(cells, [Path(f).stem for f in given.files])
        given.out.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
