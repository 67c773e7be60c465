"""The judge of an agent without the harness: is it correct, how long does it take beside PyTorch?

    python benchmarks/harness_judge.py FOLDER --problem FILE --ledger FILE --most N

Prints one JSON document. What is judged counts in the ledger, and beyond N nothing is judged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from epitaxy.cards import VerdictCard
from epitaxy.desk import Desk
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.handmade import read_folder
from epitaxy.judge import Judge
from epitaxy.ledger import Ledger
from epitaxy.plugin import plugins
from epitaxy.problem import load

BASELINE = "eager"


def answer(folder: Path, file: Path, path: Path, most: int) -> dict[str, Any]:
    """What the agent hears. Raises EpitaxyError."""
    with contextlib.redirect_stdout(sys.stderr):  # what the problem prints
        problem = load(str(file))
    machine = plugins("machines").get("local")
    with Ledger(path) as ledger:
        done = len(ledger.verdicts(problem.digest))
        if done >= most:
            raise BadInput(f"all {most} candidates are judged", "leave your answer as it is")
        it = read_folder(folder, problem)
        judge = Judge(problem, machine, baselines=[BASELINE])
        try:
            card = Desk(problem, machine, ledger, judge=judge).judge(it)
        finally:
            judge.close()
            machine.close()
    return heard(card) | {"may_still_be_judged": most - done - (not card.known)}


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
    for name, kind in (("problem", Path), ("ledger", Path), ("most", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    chosen = parser.parse_args()
    try:
        found = answer(chosen.folder, chosen.problem, chosen.ledger, chosen.most)
    except EpitaxyError as error:
        print(json.dumps({"error": error.message, "mend": error.mend}))
        return 2
    print(json.dumps(found))
    return 0 if found["correct"] else 1


if __name__ == "__main__":
    sys.exit(main())
