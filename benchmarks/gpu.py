"""The GPU of this machine: nine problems, grown, proven and timed against PyTorch.

    python benchmarks/gpu.py [NAME...] [--budget 45s] [--minutes 9] [--out docs/results/gpu]
                             [--trust]

Writes OUT-<chip>.json and .md after every problem. It stops in time: no problem is begun after
`--minutes` minus what the longest one took, and the same command goes on with what is left and with
what ended in an error. Without a GPU nothing is measured, which OUT.md then says. `--trust` runs
kernels unconfined, where nothing can confine them: they are the grower's own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy.bench_table import mean_ratio
from epitaxy.commands.run import Options, search
from epitaxy.errors import EpitaxyError
from epitaxy.machine import Accelerated, accelerator
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.report import Run
from epitaxy.timing import now_s
from epitaxy.verdict import Verdict

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "suites" / "gpu"
NAMES = (
    "row_softmax", "rmsnorm_residual", "swiglu", "cross_entropy", "cumsum", "linear_gelu_layernorm",
    "gemm_gelu", "causal_attention", "moe_grouped",
)  # fmt: skip
PRODUCTS = ("gemm_gelu", "causal_attention", "moe_grouped")
"""Bound by arithmetic; the others by memory, or fused."""
TUNED = ("max_autotune", "max_autotune_no_graphs")
LONGEST_S = 150.0
"""What a problem is taken to need before one was run."""
ERROR = "error"
FAILED = {"status": ERROR}
FEWEST = 4
"""Fewer genomes have no order worth the name."""
HEAD = (
    "problem", "status", "ms", "x eager", "x max-autotune", "of the limit", "limited by",
    "mJ a call", "mJ, fastest baseline", "predicted order", "genome",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run what is left of the problems named, as far as the time goes; the whole document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--budget", default="45s")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "gpu")
    parser.add_argument("--trust", action="store_true")
    given = parser.parse_args(arguments)
    unknown = [n for n in given.names if not (SUITE / f"{n}.py").is_file()]
    if unknown:
        parser.error(f"no problem {', '.join(unknown)} in suites/gpu: it has {', '.join(NAMES)}")
    machine = accelerator()
    if machine is None:
        return absent(given.out)
    if not given.trust:
        machine.require()
    chip = machine.chip()
    stem = given.out.with_name(f"{given.out.name}-{chip.id}")
    document = opened(stem, machine)
    start_s, longest_s = now_s(), LONGEST_S
    left = [n for n in given.names if document["problems"].get(n, FAILED)["status"] == ERROR]
    while left and now_s() - start_s + longest_s < 60 * given.minutes:
        began_s, name = now_s(), left.pop(0)
        print(f"{name}: {len(left)} more afterwards", flush=True)
        document["problems"][name] = one(name, Options(budget=given.budget, trust=given.trust))
        longest_s = max(longest_s, now_s() - began_s)
        written(stem, document)
    written(stem, document)
    if left:
        print(f"not yet run: {', '.join(left)}; the same command goes on with them")
    return document


def absent(out: Path) -> dict[str, Any]:
    """Say that nothing is measured, in words and in OUT.md."""
    out.with_suffix(".md").write_text(NOT_YET, encoding="utf-8")
    print("no GPU that can be used here: not yet measured")
    machines = plugins("machines")
    for machine in map(machines.get, machines.names()):
        if isinstance(machine, Accelerated):
            state = machine.present()
            print(f"{machine.name}: {state.detail}; {state.mend}")
    return {}


NOT_YET = """# On a GPU

Not yet measured: no machine with a GPU has run this. On one,

```
make gpu-check
```

launches the kernels of `tests/chip`, judges the attacks that need a GPU, and runs
`benchmarks/gpu.py` over `suites/gpu` (row softmax, RMS norm with residual, SwiGLU, cross-entropy,
running sums, linear + GELU + layer norm, GEMM with GELU at 4096 in bfloat16, causal attention in
half precision, a mixture of experts). The last takes at most nine minutes a run and goes on where
it stopped. It writes `gpu-<chip>.md` and `.json` here: ms, ratios to eager and to the better of
torch.compile's max-autotune modes, the share of the physical limit, joules, and the rank
correlation between the predicted and the measured order of genomes.
"""


def opened(stem: Path, machine: Any) -> dict[str, Any]:
    """What was measured before under the same conditions, or an empty document."""
    print_of = dict(machine.fingerprint())
    path = stem.with_suffix(".json")
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["conditions"] == print_of:
            return found
        path.rename(path.with_suffix(f".{found['date']}.json"))
        print(f"{path.name} is of another driver, PyTorch or machine: kept beside, begun anew")
    return {
        "chip": machine.chip().name, "date": datetime.date.today().isoformat(),
        "conditions": print_of, "problems": {},
    }  # fmt: skip


def one(name: str, options: Options) -> dict[str, Any]:
    """Search one problem; what cannot be done is a row too."""
    start_s = now_s()
    try:
        run, interrupted = search(load(str(SUITE / f"{name}.py")), options)
    except EpitaxyError as error:
        return {"status": ERROR, "why": f"{error.message} ({error.mend})"}
    if interrupted:
        raise KeyboardInterrupt
    return row(run) | {"seconds": round(now_s() - start_s, 1)}


def row(run: Run) -> dict[str, Any]:
    """What is kept of one search."""
    found, pairs = ranked([v for _, v in run.judged])
    made: dict[str, Any] = {
        "judged": len(run.judged), "counts": dict(run.counts), "stopped": run.stop_reason,
        "order": found, "order_pairs": pairs,
    }  # fmt: skip
    if run.best is None:
        last = run.judged[-1][1] if run.judged else None
        why = last.reason if last else run.stop_reason
        return made | {"status": last.status if last else "none", "why": why}
    candidate, verdict = run.best
    notes = [f.message for f in verdict.findings if f.check == "energy"]
    return made | {
        "status": verdict.status, "basis": verdict.basis, "plan": verdict.plan,
        "time_s": verdict.time_s, "of_limit": verdict.of_limit,
        "limit": verdict.floor.limit if verdict.floor else "",
        "energy_j": verdict.energy_j,
        "baseline_energy_j": next(
            (v for k, v in verdict.metrics.items() if k.startswith("energy_j ")), None
        ),
        "energy_note": next(iter(notes), ""),
        "against": {
            c.baseline: {"speedup": c.speedup, "low": c.low, "high": c.high, "time_s": c.time_s}
            for c in verdict.comparisons
        },
        "genome": candidate.genome, "candidate": candidate.id,
        "determinism": verdict.determinism,
    }  # fmt: skip


def ranked(verdicts: Sequence[Verdict]) -> tuple[float | None, int]:
    """The rank correlation (Spearman) of predicted cost and measured time over genomes, and how
    many there are; None for fewer than FEWEST, or where one of the two never differs."""
    both = [
        (v.metrics["predicted_cost"], v.time_s)
        for v in verdicts
        if v.time_s is not None and v.metrics.get("predicted_cost", 0.0) > 0
    ]
    if len(both) < FEWEST:
        return None, len(both)
    one, other = (ranks(list(column)) for column in zip(*both, strict=True))
    middle = (len(both) - 1) / 2
    top = sum((a - middle) * (b - middle) for a, b in zip(one, other, strict=True))
    size = math.sqrt(sum((a - middle) ** 2 for a in one) * sum((b - middle) ** 2 for b in other))
    return (top / size if size else None), len(both)


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0; equal values share their mean."""
    return [
        sum(other < value for other in values) + (sum(o == value for o in values) - 1) / 2
        for value in values
    ]


def tuned(made: Mapping[str, Any]) -> float | None:
    """The speed-up against the better of torch.compile's max-autotune modes."""
    found = [made["against"][n]["speedup"] for n in TUNED if n in made.get("against", {})]
    return min(found, default=None)


def written(stem: Path, document: Mapping[str, Any]) -> None:
    """OUT-<chip>.json and .md."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1) + "\n"
    stem.with_suffix(".json").write_text(text, encoding="utf-8")
    stem.with_suffix(".md").write_text(page(document), encoding="utf-8")


def page(document: Mapping[str, Any]) -> str:
    """The document as Markdown."""
    known, conditions = document["problems"], document["conditions"]
    facts = ", ".join(
        f"{k} {conditions[k]}" for k in ("driver", "cuda", "torch", "triton") if k in conditions
    )
    lines = [
        f"# {document['chip']}", "",
        f"{document['date']}; {conditions.get('gpu', '')}; {facts}. Made by `make gpu-check`.", "",
        "Grown kernels against PyTorch on the same GPU, by the judge: fresh inputs, cold "
        "second-level cache at the start of a burst, the broker's wall clock held against the "
        "GPU's events. *x*: the baseline's time over ours, paired medians with 99 % intervals.",
        "", "|" + "|".join(HEAD) + "|", "|" + "---|" * len(HEAD),
    ]  # fmt: skip
    lines += ["|" + "|".join(cells(name, made)) + "|" for name, made in known.items()]
    lines += ["", *sums(known), *[f"- {n}: {m['why']}" for n, m in known.items() if m.get("why")]]
    notes = sorted({m["energy_note"] for m in known.values() if m.get("energy_note")})
    missing = [n for n in NAMES if n not in known]
    if missing:
        lines.append(f"- not yet measured: {', '.join(missing)}")
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def cells(name: str, made: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    order = made.get("order")
    predicted = f"{order:+.2f} of {made['order_pairs']}" if order is not None else "not measured"
    if made.get("time_s") is None:
        return [name, made["status"], *[""] * 7, predicted, ""]
    return [
        name, made["status"], f"{made['time_s'] * 1e3:.4f}",
        _ratio(made, "eager"),
        max((_ratio(made, n) for n in TUNED if tuned(made) == _speed(made, n)), default=""),
        f"{made['of_limit']:.0%}" if made["of_limit"] else "", made["limit"],
        _millijoules(made["energy_j"]), _millijoules(made["baseline_energy_j"]),
        predicted, f"`{made['genome']}`",
    ]  # fmt: skip


def _speed(made: Mapping[str, Any], name: str) -> float | None:
    return made["against"].get(name, {}).get("speedup")  # type: ignore[no-any-return]


def _ratio(made: Mapping[str, Any], name: str) -> str:
    found = made["against"].get(name)
    return f"{found['speedup']:.2f} ({found['low']:.2f}–{found['high']:.2f})" if found else "none"


def _millijoules(value: float | None) -> str:
    return "not measured" if value is None else f"{value * 1e3:.3g}"


def sums(known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Geometric means against max-autotune."""
    found = []
    for title, some in (
        ("memory-bound and fused", [n for n in known if n not in PRODUCTS]),
        ("products", [n for n in known if n in PRODUCTS]),
    ):
        ratios = [r for n in some if (r := tuned(known[n])) is not None]
        if ratios:
            found.append(
                f"Geometric mean against max-autotune, {title}: {mean_ratio(ratios):.2f} "
                f"({len(ratios)} of {len(some)} problems)."
            )
    return found


if __name__ == "__main__":
    try:
        main()
    except EpitaxyError as error:
        sys.exit(f"error: {error.message} — {error.mend}")
