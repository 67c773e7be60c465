"""What the ledger knows of a captured graph on this machine, as a callable. Nothing is searched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import EpitaxyError, UnknownName
from epitaxy.graphs import Graph
from epitaxy.ledger import Ledger
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.record import canonical, digest_text
from epitaxy.verdict import Verdict


@dataclass(frozen=True)
class Winner:
    """A candidate that is shown to be faster than every baseline on this machine."""

    problem: Problem
    candidate: Candidate
    verdict: Verdict


def look_up(graph: Graph, ledger: Path | None = None) -> Winner | str:
    """The winner for a graph, or in one line why there is none."""
    path = ledger or Ledger.default_path()
    if not path.exists():
        return f"nothing is known of {graph.name}: there is no ledger at {path}"
    machine = digest_text(canonical(plugins("machines").get("local").fingerprint()))
    with Ledger(path) as store:
        try:
            problem = store.problem(graph.name)
        except UnknownName:
            return f"nothing is known of {graph.name}"
        best = store.best(problem.digest, machine=machine, plan="full")
    if not best:
        return f"no candidate for {graph.name} is fully judged on this machine"
    candidate, verdict = best[0]
    if not verdict.won:
        against = verdict.strongest.baseline if verdict.strongest else "anything"
        return f"no candidate for {graph.name} is shown to be faster than {against}"
    return Winner(problem, candidate, verdict)


def product(winner: Winner) -> Any:
    """The class ModelNew of a winner, exported once below the home folder."""
    from epitaxy.product import export, load

    home = Ledger.default_path().parent
    folder = home / "graphs" / f"{winner.problem.name}-{winner.candidate.id}"
    if not (folder / "model_new.py").exists():
        toolchain = plugins("toolchains").get(winner.candidate.toolchain)
        build = toolchain.build(winner.candidate, winner.problem, home / "build")
        export(winner.candidate, winner.verdict, winner.problem, folder, build)
    return load(folder)


class Bound:
    """A graph's kernel as a function of the graph's arguments, parameters and buffers included.

    What is passed as a parameter is used as it is, and only looked at again when another tensor
    is passed in its place.
    """

    def __init__(self, made: type, graph: Graph) -> None:
        import torch

        with torch.device("meta"):  # its own parameters are never used
            module = made().eval()
        self.module, self.inputs = module, graph.inputs
        self.places = [(self._owner(name), name, place) for name, place in graph.state]
        for name, tensor in graph.attributes:
            self._owner(name)[name] = tensor

    def _owner(self, name: str) -> dict[str, Any]:
        module = self.module
        found: dict[str, Any] = (
            module._parameters if name in module._parameters else module._buffers
        )
        return found

    def __call__(self, *arguments: Any) -> tuple[Any, ...]:
        """The graph's outputs."""
        for owner, name, place in self.places:
            if owner[name] is not arguments[place]:
                owner[name] = arguments[place]
        result: tuple[Any, ...] = self.module(*[arguments[i] for i in self.inputs])
        return result


def bound(graph: Graph, ledger: Path | None = None) -> Bound | str:
    """The best kernel known for a graph, ready to be called, or why there is none."""
    try:
        winner = look_up(graph, ledger)
        return winner if isinstance(winner, str) else Bound(product(winner), graph)
    except EpitaxyError as error:
        return f"{error.message} ({error.mend})"
