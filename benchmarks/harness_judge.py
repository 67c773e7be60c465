"""The judge of an agent without the harness: is it correct, how long does it take beside PyTorch?

    python benchmarks/harness_judge.py FOLDER --problem FILE --digest D --ledger FILE --most N

Prints one JSON document. What is begun counts in the ledger, whatever becomes of it, and beyond N
nothing is judged. D is the problem's digest: an edited file is another problem, and refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from epitaxy.budget import Budget
from epitaxy.cards import VerdictCard
from epitaxy.desk import Desk
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.handmade import read_folder
from epitaxy.judge import Judge
from epitaxy.ledger import Ledger
from epitaxy.plugin import plugins
from epitaxy.problem import load
from epitaxy.serve.allowance import Allowance

BASELINE = "eager"


def answer(folder: Path, file: Path, digest: str, allowance: Allowance) -> dict[str, Any]:
    """What the agent hears. Raises EpitaxyError."""
    with contextlib.redirect_stdout(sys.stderr):  # what the problem prints
        problem = load(str(file))
    if problem.digest != digest:
        raise BadInput(f"{file.name} was edited", "put it back: it says what is correct")
    machine = plugins("machines").get("local")
    with Ledger(allowance.ledger) as ledger:
        it = read_folder(folder, problem).replace(proposer="command")
        judge = Judge(problem, machine, baselines=[BASELINE])
        try:
            desk = Desk(problem, machine, ledger, judge=judge)
            desk.charge = allowance.charge
            card = desk.judge(it)
        finally:
            judge.close()
            machine.close()
    return heard(card) | {"may_still_be_judged": allowance.left}


def heard(card: VerdictCard) -> dict[str, Any]:
    """A verdict as anybody would know it who can build, compare and time."""
    told = {
        "correct": card.accepted,
        "status": card.status,
        "reason": card.reason,
        "compiler": card.compiler,
        "time_s": card.time_s,
        "pytorch_time_s": next((b.time_s for b in card.baselines), None),
    }
    return {name: value for name, value in told.items() if value not in ("", None)}


def main() -> int:
    """Judge one folder; exit code 1 where it is not correct, 2 where it cannot be judged."""
    parser = argparse.ArgumentParser(description="Judge the candidate in a folder.")
    parser.add_argument("folder", type=Path)
    for name, kind in (("problem", Path), ("digest", str), ("ledger", Path), ("most", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    chosen = parser.parse_args()
    try:
        allowance = Allowance(Budget(candidates=chosen.most), chosen.ledger, lasting=True)
        found = answer(chosen.folder, chosen.problem, chosen.digest, allowance)
    except EpitaxyError as error:
        print(json.dumps({"error": error.message, "mend": error.mend}))
        return 2
    print(json.dumps(found))
    return 0 if found["correct"] else 1


if __name__ == "__main__":
    sys.exit(main())
