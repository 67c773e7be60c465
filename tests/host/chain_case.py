"""Networks captured as a search sees them, and their candidates with the reference's weights."""

from __future__ import annotations

from grown_case import pair

from epitaxy import create_study
from epitaxy.problem import load
from epitaxy.proposers.grower import _Captured
from epitaxy.toolchains.cpp import plugin


class Seen:
    """What a proposer looks at of a study."""

    def __init__(self, problem, chip):
        self.problem, self.chip, self.seed = problem, chip, 0

    def history(self):
        """Nothing was judged before."""
        return []


def captured_in(folder, source, **changed):
    """The problem, its captured program as a search on this chip (but for what is `changed`) sees
    it, and the folder."""
    (folder / "net.py").write_text(source)
    problem = load(folder / "net.py")
    study = create_study(problem, ledger=folder / "l.sqlite", budget="1")
    return problem, _Captured(Seen(problem, study.machine.chip().replace(**changed))), folder


def loaded(problem, captured, folder, genome):
    """The reference and the candidate of `genome` with the same weights."""
    candidate = captured.candidate(genome, "", ())
    build = plugin().build(candidate, problem, folder / "cache")
    assert build.ok, build.log
    return candidate, *pair(f"{build.folder}/model_new.py")
