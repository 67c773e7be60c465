"""The judge of an agent without the harness: is it correct, how long does it take beside PyTorch?

    python benchmarks/harness_judge.py --problem FILE --ledger FILE --most N --socket PATH

Prepares every baseline, says "ready", and answers one line of JSON, {"folder": PATH}, with another
until it is ended. What is begun counts in the ledger, whatever becomes of it, and beyond N nothing
is judged; nor while FILE is not as it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from harness_main import on_machine

from epitaxy.budget import Budget
from epitaxy.cards import VerdictCard
from epitaxy.desk import Desk
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.handmade import read_folder
from epitaxy.judge import Judge
from epitaxy.ledger import Ledger
from epitaxy.problem import load
from epitaxy.serve.allowance import Allowance

REQUEST_BYTES = 1 << 16


class Answers:
    """What an agent hears of its folders. `text` is the problem's file as it was."""

    def __init__(self, desk: Desk, file: Path, text: bytes, most: int) -> None:
        self.desk, self.file, self.text, self.most = desk, file, text, most

    def of(self, folder: Path) -> dict[str, Any]:
        """Judge what lies in `folder`. Raises EpitaxyError."""
        if not self.file.is_file() or self.file.read_bytes() != self.text:
            raise BadInput(f"{self.file.name} was edited", "put it back: it says what is correct")
        allowance = Allowance(Budget(candidates=self.most), self.desk.ledger.path, lasting=True)
        self.desk.charge = allowance.charge
        it = read_folder(folder, self.desk.problem).replace(proposer="command")
        card = self.desk.judge(it)
        times = dict(self.desk.open_judge().baselines())
        return heard(card, times) | {"may_still_be_judged": allowance.left}

    def line(self, request: bytes) -> str:
        """The answer to a line of JSON, whatever it holds."""
        try:
            folder = json.loads(request)["folder"]
            return json.dumps(self.of(Path(folder)))
        except EpitaxyError as error:
            return json.dumps({"error": error.message, "mend": error.mend})
        except (ValueError, KeyError, TypeError, RecursionError):
            return json.dumps({"error": "that is no request", "mend": "call ./judge FOLDER"})


def heard(card: VerdictCard, times: dict[str, float]) -> dict[str, Any]:
    """A verdict as anybody would know it who can build, compare and time."""
    told = {
        "correct": card.accepted,
        "status": card.status,
        "reason": card.reason,
        "compiler": card.compiler,
        "time_s": card.time_s,
        "baselines_time_s": times,
    }
    return {name: value for name, value in told.items() if value not in ("", None)}


def serve(answers: Answers, path: Path) -> None:
    """One request after the other, without end."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        print("ready", flush=True)
        while True:
            with contextlib.suppress(OSError), server.accept()[0] as asked:
                request = asked.makefile("rb").readline(REQUEST_BYTES)
                with contextlib.redirect_stdout(sys.stderr):
                    told = answers.line(request)
                asked.sendall(told.encode() + b"\n")


def main() -> int:
    """Serve until SIGTERM; exit code 2 with one line where that cannot be."""
    parser = argparse.ArgumentParser(description="Judge candidates in folders.")
    for name, kind in (("problem", Path), ("ledger", Path), ("most", int), ("socket", Path)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--baseline", action="append", help="only these, by name")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return on_machine(lambda machine: opened(chosen, machine))


def opened(chosen: argparse.Namespace, machine: Any) -> None:
    """Prepare the judge that the command line asks for, and let it serve."""
    with contextlib.redirect_stdout(sys.stderr):  # what the problem prints
        problem = load(str(chosen.problem))
        text = chosen.problem.read_bytes()
        judge = Judge(problem, machine, baselines=chosen.baseline)
    with contextlib.closing(judge), Ledger(chosen.ledger) as ledger:
        judge.baselines()
        desk = Desk(problem, machine, ledger, judge=judge)
        serve(Answers(desk, chosen.problem, text, chosen.most), chosen.socket)


if __name__ == "__main__":
    sys.exit(main())
