"""Search efficiency: judged candidates and seconds until 95 % of the best is found.

    python benchmarks/search.py record [--out OUT] [--genomes 64] [--only NAME]
    python benchmarks/search.py replay [--out OUT] [--seeds 10]

`record` builds and times every genome of a small space of several problems (about five minutes on
a quiet machine of four cores; resumed where it was cut; `epitaxy probe` comes first). `replay` then
lets three searches loose on the recording, where a judged candidate costs nothing: genomes in
random order, the grower's own moves, and the same with the cost model, which has learned from the
other problems and learns from what it has judged. Writes OUT.json and OUT.md. Kernel Tuner's
simulation mode compares strategies in the same way.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILES = (
    "examples/softmax.py", "examples/rmsnorm.py", "examples/layernorm_residual.py",
    "examples/groupnorm_swish.py", "suites/level1/sum_columns.py", "suites/level1/min_columns.py",
    "suites/level1/matmul_irregular.py", "suites/level1/matmul_transposed_left.py",
    "suites/level2/linear_swish_scale.py",
)  # fmt: skip
LIKELY = (
    "form", "tile_m", "kc", "nc", "tile", "stream", "unroll", "ahead", "split", "prefetch",
    "width", "dynamic", "lane", "mc", "pack_b", "stash",
)  # fmt: skip
PAIRS = 15
BATCH = 4
ENOUGH = 0.95
SCREEN_S = 1.0
"""Seconds that the judge's screening of one candidate takes, about; builds are as recorded."""
MARKS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
STRATEGIES = ("random", "evolutionary", "evolutionary + cost model")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Record or replay; the document that was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("record", "replay"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/search")
    parser.add_argument("--genomes", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="")
    given = parser.parse_args(arguments)
    recorded = given.out.with_suffix(".recorded.json")
    if given.what == "record":
        recorded.parent.mkdir(parents=True, exist_ok=True)
        document = json.loads(recorded.read_text()) if recorded.exists() else {"problems": []}
        known = {entry["file"] for entry in document["problems"]}
        for file in (f for f in FILES if given.only in f and f not in known):
            document["problems"].append(record(file, given.genomes))
            recorded.write_text(json.dumps(document, indent=1) + "\n")
        return dict(document)
    document = replay(json.loads(recorded.read_text()), given.seeds)
    given.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(markdown(document))
    return document


# -- recording -------------------------------------------------------------------------------------


def record(file: str, most: int) -> dict[str, Any]:
    """Every genome of a small space of the heaviest region of `file`, with its time as a share of
    the first guess's (median of alternating pairs)."""
    import epitaxy.problem
    from epitaxy.proposers.grower import space
    from epitaxy.proposers.grower.genome import Genome
    from epitaxy.proposers.grower.growth import grow_program

    chip = _chip()
    problem = epitaxy.problem.load(ROOT / file)
    growth = grow_program(epitaxy.problem.open_reference(problem))
    spaces = space.spaces(growth.regions, chip)
    region = next(r for r in growth.regions if r.name == next(iter(spaces)))
    start = Genome(((region.name, space.first_guess(region, chip)),))
    small = shrunk(start, spaces[region.name], most)
    names = list(small)
    genomes = [
        start.with_choice(region.name, **dict(zip(names, values, strict=True)))
        for values in product(*small.values())
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = _timed(region, start, genomes, Path(folder))
    print(f"{problem.name}: {len(rows)} of {len(genomes)} genomes", file=sys.stderr)
    return {"file": file, "start": str(start), "space": {region.name: small}, "rows": rows}


def _chip() -> Any:
    from epitaxy.plugin import plugins

    return plugins("machines").get("local").chip()


def shrunk(
    start: Any, options: Mapping[str, Sequence[int]], most: int
) -> dict[str, tuple[int, ...]]:
    """Up to four decisions of up to four values each, the guess's among them: `most` genomes."""
    ((_, guess),) = start.regions
    found: dict[str, tuple[int, ...]] = {}
    for name in (n for n in LIKELY if len(options.get(n, ())) > 1):
        current = getattr(guess, name)
        others = [v for v in options[name] if v != current]
        picked = {
            current,
            *(others[k * (len(others) - 1) // 2] for k in range(min(3, len(others)))),
        }
        values = tuple(sorted(picked))
        if math.prod(map(len, found.values())) * len(values) <= most:
            found[name] = values
    return found


def _timed(region: Any, start: Any, genomes: Sequence[Any], folder: Path) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        built = list(pool.map(lambda g: _built(region, g, folder), [start, *genomes]))
    inputs = _inputs(region)
    first = _call(built[0][0], region, inputs)
    rows = []
    for genome, (library, build_s) in zip(genomes, built[1:], strict=True):
        if library is None:
            continue
        call = _call(library, region, inputs)
        with _urgent():
            call(), first()
            ratios = [_seconds(call) / _seconds(first) for _ in range(PAIRS)]
        time.sleep(0.001)
        row = {"genome": str(genome), "ratio": statistics.median(ratios), "build_s": build_s}
        rows.append(row)
    return rows


def _built(region: Any, genome: Any, folder: Path) -> tuple[Path | None, float]:
    """(the library, seconds); no library where the genome cannot be written."""
    from epitaxy.compiler import find_compiler, flags
    from epitaxy.proposers.grower.emit import Unsupported, emit_source

    start_s = time.perf_counter()
    name = f"k{abs(hash(str(genome)))}"
    source, library = folder / f"{name}.cpp", folder / f"{name}.so"
    try:
        source.write_text(emit_source([region], genome))
    except Unsupported:
        return None, 0.0
    compiler = find_compiler()
    command = [compiler.path, *flags(compiler), "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return library, time.perf_counter() - start_s


def _inputs(region: Any) -> list[Any]:
    import torch

    torch.manual_seed(1)
    made = []
    for spec in region.inputs:
        dtype = getattr(torch, spec.dtype)
        random_ = torch.randn(spec.shape) if dtype.is_floating_point else torch.zeros(spec.shape)
        made.append(random_.to(dtype))
    return made


def _call(library: Path | None, region: Any, inputs: Sequence[Any]) -> Callable[[], None]:
    import torch

    opened = ctypes.CDLL(str(library))
    function = getattr(opened, region.name)
    outputs = [torch.zeros(s.shape, dtype=getattr(torch, s.dtype)) for s in region.outputs]
    given = [*inputs, *_copies(opened, region, inputs)]
    packed = [_pointers(given), _pointers(outputs)]
    return lambda: (function(*packed), given, outputs)[0]


def _copies(opened: ctypes.CDLL, region: Any, inputs: Sequence[Any]) -> list[Any]:
    """The copies of weights that the region keeps between calls, as its last input; [] for none."""
    import torch

    if not hasattr(opened, f"{region.name}_keep"):
        return []
    keep = getattr(opened, f"{region.name}_keep")
    keep.restype = ctypes.c_int64
    room = torch.empty(keep(_pointers(inputs), None) + 16)
    kept = room[-(room.data_ptr() // 4) % 16 :]  # from a whole line on
    keep(_pointers(inputs), ctypes.c_void_p(kept.data_ptr()))
    return [kept]


def _pointers(tensors: Sequence[Any]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[x.data_ptr() for x in tensors])


@contextlib.contextmanager
def _urgent() -> Iterator[None]:
    """Real-time priority for a burst, where it is permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _seconds(call: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


# -- replaying -------------------------------------------------------------------------------------


def replay(recorded: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    """How soon each strategy finds 95 % of the best of each recording, and the mean curves."""
    import epitaxy.problem
    from epitaxy.proposers.grower.genome import parse

    entries = []
    for entry in recorded["problems"]:
        problem = epitaxy.problem.load(ROOT / entry["file"])
        table = {parse(r["genome"]): r for r in entry["rows"]}
        entries.append((entry, problem, table))
    outcomes = {
        p.name: [(p, r["genome"], 1 / r["ratio"]) for r in t.values()] for _, p, t in entries
    }
    rows = []
    for entry, problem, table in entries:
        others = [o for name, listed in outcomes.items() if name != problem.name for o in listed]
        for strategy in STRATEGIES:
            for seed in range(seeds):
                rows.append(_run(entry, problem, table, strategy, others, seed))
            print(f"{problem.name}: {strategy}", file=sys.stderr)
    return {"genomes": {p.name: len(t) for _, p, t in entries}, "runs": rows}


def _run(
    entry: Mapping[str, Any], problem: Any, table: Mapping[Any, Any], strategy: str,
    others: Sequence[Any], seed: int,
) -> dict[str, Any]:  # fmt: skip
    best, top, seconds = min(r["ratio"] for r in table.values()), math.inf, 0.0
    curve, times = [], []
    for genome, spent_s in _order(entry, problem, table, strategy, others, seed):
        top = min(top, table[genome]["ratio"])
        seconds += spent_s + table[genome]["build_s"] + SCREEN_S
        curve.append(best / top)
        times.append(seconds)
    reached = next(i for i, share in enumerate(curve) if share >= ENOUGH)
    return {
        "problem": problem.name, "strategy": strategy, "seed": seed,
        "candidates": reached + 1, "seconds": times[reached], "curve": curve,
    }  # fmt: skip


def _order(
    entry: Mapping[str, Any], problem: Any, table: Mapping[Any, Any], strategy: str,
    others: Sequence[Any], seed: int,
) -> Iterator[tuple[Any, float]]:  # fmt: skip
    """(genome, seconds spent on choosing it) in the order in which the strategy judges them."""
    from epitaxy.proposers.grower.genome import parse
    from epitaxy.proposers.grower.learn import fit
    from epitaxy.proposers.grower.moves import moves

    rng = random.Random(seed)
    left = list(table)
    rng.shuffle(left)
    if strategy == "random":
        yield from ((genome, 0.0) for genome in left)
        return
    spaces = {name: {d: tuple(v) for d, v in of.items()} for name, of in entry["space"].items()}
    judged: dict[Any, float] = {}
    while len(judged) < len(table):
        start_s = time.perf_counter()
        elite = [(g, "") for g in sorted(judged, key=judged.__getitem__)[:4]]
        model = None
        if strategy.endswith("model") and judged:
            own = [(problem, str(g), 1 / ratio) for g, ratio in judged.items()]
            model = fit(problem, [*others, *own])
        listed = moves(
            [parse(entry["start"])], spaces, elite, random.Random(f"{seed} {len(judged)}"), model
        )
        wanted = dict.fromkeys(g for g, _, _ in listed if g in table and g not in judged)
        # Where no move is left the real search ends; here it goes on at random.
        batch = list(wanted)[:BATCH] or [g for g in left if g not in judged][:BATCH]
        spent_s = (time.perf_counter() - start_s) / len(batch)
        for genome in batch:
            judged[genome] = table[genome]["ratio"]
            yield genome, spent_s


# -- what came of it -------------------------------------------------------------------------------


def markdown(document: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    runs = document["runs"]

    def of(strategy: str, problem: str | None = None) -> list[Any]:
        return [r for r in runs if r["strategy"] == strategy and problem in (None, r["problem"])]

    lines = [
        "# Search efficiency", "",
        f"Judged candidates until {ENOUGH:.0%} of the best of a recorded enumeration is found: "
        f"median of {len({r['seed'] for r in runs})} seeds. The cost model has learned from the "
        "other problems.", "",
        _line(["problem", "genomes", *STRATEGIES]), _line(["---"] * (2 + len(STRATEGIES))),
    ]  # fmt: skip
    for problem, count in document["genomes"].items():
        medians = [statistics.median(r["candidates"] for r in of(s, problem)) for s in STRATEGIES]
        lines.append(_line([problem, str(count), *(f"{m:g}" for m in medians)]))
    for title, key in (("geometric mean", "candidates"), ("seconds, geometric mean", "seconds")):
        means = [statistics.geometric_mean(r[key] for r in of(s)) for s in STRATEGIES]
        lines.append(_line([title, "", *(f"{m:.1f}" for m in means)]))
    lines += ["", "Best found, as a share of the best there is (mean over problems and seeds):", "",
              _line(["judged", *STRATEGIES]), _line(["---"] * (1 + len(STRATEGIES)))]  # fmt: skip
    for mark in MARKS:
        shares = [
            statistics.fmean(r["curve"][min(mark, len(r["curve"])) - 1] for r in of(s))
            for s in STRATEGIES
        ]
        lines.append(_line([str(mark), *(f"{s:.1%}" for s in shares)]))
    return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
