"""A place for the MCP server's tests."""

from __future__ import annotations

import fake_records

from epitaxy.ledger import Ledger
from epitaxy.machines.replay import ReplayMachine
from epitaxy.serve.tools import Tools

PROBLEM = fake_records.problem(name="softmax", source="y = torch.softmax(x, 1)")


class Place:
    """A working folder, a ledger that holds a problem, and the tools over both."""

    def __init__(self, folder):
        self.root = folder / "work"
        self.root.mkdir()
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "secret.py").write_text("KEY = 'hidden'\n")
        self.path = folder / "ledger.sqlite"
        with Ledger(self.path) as ledger:
            ledger.add_problem(PROBLEM)
        machine = ReplayMachine(fake_records.CHIP, {"cpu": "EPYC", "cores": "4"})
        self.tools = Tools([], self.root, machine, self.path)
