"""The suites for plugin authors, run on what ships, and on plugins that break their contracts."""

from __future__ import annotations

import pytest

from epitaxy.machines.replay import ReplayMachine
from epitaxy.proposers.scripted import Scripted
from epitaxy.testing import (
    CheckConformance,
    MachineConformance,
    ProposerConformance,
    ToolchainConformance,
)
from epitaxy.toolchain import Availability, Build
from epitaxy.toolchains.null import Null


class TestNull(ToolchainConformance):
    plugin = "null"


class TestReplay(MachineConformance):
    plugin = ReplayMachine


class TestSources(CheckConformance):
    plugin = "sources"
    bad = {"model_new.py": "import os\n"}  # noqa: RUF012


class TestScripted(ProposerConformance):
    def make(self):
        texts = ("a = 1\n", "b = 2\n", "c = 3\n", "d = 4\n", "a = 1\n")
        return Scripted([self.candidate({"m.py": t}, "m.py", "null") for t in texts])


class TestEmptyScript(ProposerConformance):
    plugin = "scripted"


class Forgetful(Null):
    """Builds everything into one folder, and lets broken sources pass."""

    def available(self):
        return Availability(ok=False, detail="")

    def build(self, candidate, problem, cache):
        (cache / "one").mkdir(exist_ok=True)
        (cache / "one" / "model_new.py").write_text("")
        return Build(ok=True, folder=str(cache / "one"))


@pytest.mark.parametrize(
    "test",
    ["test_a_refusal_is_data", "test_other_files_build_elsewhere", "test_a_second_build_is_free"],
)
def test_a_bad_toolchain_is_found_out(test, tmp_path, monkeypatch):
    class Suite(ToolchainConformance):
        plugin = Forgetful

    with pytest.raises(AssertionError):
        Suite().test_it_says_whether_it_is_available()
    monkeypatch.setattr(Forgetful, "available", Null.available)
    with pytest.raises(AssertionError):
        getattr(Suite(), test)(tmp_path)


def test_a_repeating_proposer_is_found_out():
    class Suite(ProposerConformance):
        def make(self):
            same = self.candidate({"m.py": "a"}, "m.py", "null")
            stuck = Scripted()
            stuck.propose = lambda view, count: [same]
            return stuck

    with pytest.raises(AssertionError):
        Suite().test_it_does_not_repeat_itself()


def test_a_check_without_a_bad_candidate_is_found_out():
    class Suite(CheckConformance):
        plugin = "sources"

    with pytest.raises(AssertionError, match="bad"):
        Suite().test_it_refuses_its_own_bad_candidate()
