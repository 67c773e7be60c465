"""What ships, under the suites that authors of plugins use: compiler, processes and grower."""

from __future__ import annotations

import product_case
import pytest

from epitaxy.machines.local import LocalMachine
from epitaxy.proposers.grower import Grower
from epitaxy.record import FrozenDict
from epitaxy.testing import MachineConformance, ProposerConformance, ToolchainConformance


class TestCpp(ToolchainConformance):
    plugin = "cpp"
    problem = product_case.PROBLEM
    files = product_case.candidate().files
    entry = "forward.py"
    broken = FrozenDict({**files, "kernel.cpp": "int broken( {"})


class TestTorch(ToolchainConformance):
    plugin = "torch"
    broken_entry = "model_new.py"


class Quick(LocalMachine):
    """Without the search for every baseline that runs here, which takes seconds."""

    def baselines(self):
        return ["eager"]


class TestLocal(MachineConformance):
    @pytest.fixture(autouse=True)
    def _machine(self, tmp_path):
        self.plugin = Quick(home=tmp_path)
        yield
        self.plugin.close()


class TestGrower(ProposerConformance):
    plugin = Grower
