"""optimize, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from epitaxy.commands.condition import Condition, Threads
from epitaxy.commands.output import (
    Deterministic,
    Json,
    LedgerPath,
    Precision,
    Weights,
    add,
    policy_options,
)


def register(app: Any) -> None:
    """Add this group's commands."""
    add(app, optimize, bench)


Chip = Annotated[str, typer.Option("--chip", help="Chip to grow for; 'local' is this machine.")]
With = Annotated[str, typer.Option("--with", help="Proposer (see: epitaxy proposers).")]
Budget = Annotated[str, typer.Option("--budget", help="90s, 2m, 1h, or a number of candidates.")]
Model = Annotated[
    str, typer.Option("--model", help="For --with agent: provider/model (default $EPITAXY_MODEL).")
]
Islands = Annotated[
    int,
    typer.Option("--islands", help="For --with agent: conversations with different strategies."),
]
MaxCost = Annotated[
    str, typer.Option("--max-cost", help="For --with agent: 2usd or 200000tokens at most.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the search.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run candidates without a sandbox if there is none here.")
]


def optimize(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="KernelBench-format file, or package.module:Class."),
    ],
    chip: Chip = "local",
    proposer: With = "grower",
    budget: Budget = "2m",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for results (epitaxy-out/NAME).")
    ] = None,
    seed: Seed = 0,
    ledger: LedgerPath = None,
    trust: Trust = False,
    condition: Condition = "warm",
    threads: Threads = 0,
    precision: Precision = "",
    deterministic: Deterministic = False,
    weights: Weights = "",
    model: Model = "",
    islands: Islands = 1,
    max_cost: MaxCost = "",
    as_json: Json = False,
) -> int:
    """Grow, prove and export the fastest kernel found for FILE."""
    from epitaxy.commands.run import Options, optimize_file

    policy = policy_options(precision, deterministic, weights)
    options = Options(
        chip, proposer, budget, seed, ledger, trust, condition, threads, policy, model, islands,
        max_cost,
    )  # fmt: skip
    return optimize_file(file, options, out, as_json)


def bench(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="PATH_OR_SUITE...", help="Folders, files, level1..3, or all."),
    ],
    budget: Budget = "90s",
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path(
        "epitaxy-out/bench"
    ),
    scale: Annotated[
        str, typer.Option("--scale", help="Shrink the files' sizes: 0.25, or auto.")
    ] = "",
    proposer: With = "grower",
    seed: Seed = 0,
    ledger: LedgerPath = None,
    trust: Trust = False,
    condition: Condition = "warm",
    threads: Threads = 0,
    precision: Precision = "",
    deterministic: Deterministic = False,
    weights: Weights = "",
    as_json: Json = False,
) -> int:
    """Optimize whole suites (resuming) and write table.json, table.md and table.html."""
    from epitaxy.commands.bench import Suite
    from epitaxy.commands.bench import bench as run
    from epitaxy.commands.run import Options

    policy = policy_options(precision, deterministic, weights)
    options = Options("local", proposer, budget, seed, ledger, trust, condition, threads, policy)
    return run(Suite(targets, out, scale), options, as_json)
