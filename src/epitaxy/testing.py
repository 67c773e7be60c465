"""Conformance suites for authors of plugins. Three lines in a test file run one:

    from epitaxy.testing import ToolchainConformance
    class TestMine(ToolchainConformance):
        plugin = "mine"

`plugin` is a name, an object, or a class to be made anew for every test. Where the defaults do
not suit (sources of another language, say), override the other attributes.

`attack_corpus()` lists known cheats and honest controls, and `run_attacks(specimens, machine)`
judges them, with and without the guard that each names: for authors of machines and of judges.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from epitaxy import attacks
from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.errors import EpitaxyError
from epitaxy.machine import Job
from epitaxy.plugin import plugins
from epitaxy.problem import Problem, TensorSpec, Work, open_reference
from epitaxy.proposer import Left, Tool
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability, Build
from epitaxy.verdict import Finding, Verdict

attack_corpus, run_attacks = attacks.corpus, attacks.run
SPEC = TensorSpec(shape=(8, 16), dtype="float32")
PROBLEM = Problem(
    name="relu",
    reference="torch_module",
    source="""import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)

def get_inputs():
    return [torch.randn(8, 16)]

def get_init_inputs():
    return []
""",
    entry="Model",
    inputs=(SPEC,),
    outputs=(SPEC,),
    work=Work(bytes_read=512.0, bytes_written=512.0),
)
"""A small problem that every torch worker can run: relu of float32[8, 16]."""
CHIP = Chip(
    id="sample", name="sample", vendor="none", kind="cpu", cores=2, vector_bytes=32,
    peak_flops_per_s=FrozenDict(float32=1e11),
)  # fmt: skip
MODEL = """import torch

class ModelNew(torch.nn.Module):
    def forward(self, x):
        return x.clamp_min(0)
"""


@dataclass(frozen=True)
class SampleView:
    """A study's view for tests; see `epitaxy.proposer.View`."""

    problem: Problem = PROBLEM
    chip: Chip = CHIP
    seed: int = 0
    toolchains: Sequence[str] = ("cpp", "null")
    known: Sequence[tuple[Candidate, Verdict]] = ()
    waiting: Sequence[Candidate] = field(default=())
    kept: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def judged(self) -> Sequence[tuple[Candidate, Verdict]]:
        """What `known` holds."""
        return self.known

    def pending(self) -> Sequence[Candidate]:
        """What `waiting` holds."""
        return self.waiting

    def history(self) -> Sequence[tuple[Problem, str, float]]:
        """The genomes of the accepted ones of `known`."""
        return [(self.problem, c.genome, v.speedup or 0.0) for c, v in self.known if v.accepted]

    def best(self, count: int = 1) -> Sequence[tuple[Candidate, Verdict]]:
        """The accepted ones of `known`, fastest first."""
        accepted = [pair for pair in self.known if pair[1].accepted]
        return sorted(accepted, key=lambda pair: -(pair[1].speedup or 0))[:count]

    def tools(self) -> Sequence[Tool]:
        """None."""
        return ()

    def left(self) -> Left:
        """No limit."""
        return Left()

    def note(self, kind: str, **body: Any) -> None:
        """Kept in `kept`."""
        self.kept.append((kind, body))

    def notes(self, kind: str) -> Sequence[Mapping[str, Any]]:
        """What `kept` holds of that kind."""
        return [body for k, body in self.kept if k == kind]

    def say(self, phase: str) -> None:
        """Nobody listens."""


class Conformance:
    """What all suites share."""

    folder: ClassVar[str]
    plugin: Any = None
    problem: Problem = PROBLEM

    def make(self) -> Any:
        """The plugin under test; override it when its constructor needs arguments."""
        if isinstance(self.plugin, str):
            return plugins(self.folder).get(self.plugin)
        assert self.plugin is not None, "set `plugin` to a name, an object or a class"
        return self.plugin() if isinstance(self.plugin, type) else self.plugin

    def candidate(self, files: Mapping[str, str], entry: str, toolchain: str) -> Candidate:
        """A candidate for `problem` made of `files`."""
        return Candidate(
            problem=self.problem.digest, toolchain=toolchain, files=FrozenDict(files),
            entry=entry, proposer="conformance",
        )  # fmt: skip

    def test_it_has_a_name(self) -> None:
        """A name of one word, by which it is recorded."""
        name = self.make().name
        assert isinstance(name, str)
        assert name
        assert name == name.strip()
        assert " " not in name


class ToolchainConformance(Conformance):
    """The contract of `epitaxy.toolchain.Toolchain`.

    `files` and `entry` are sources that build; `broken` are files that must not, `broken_entry`
    the entry of those.
    """

    folder = "toolchains"
    files: Mapping[str, str] = FrozenDict({"model_new.py": MODEL})
    entry = "model_new.py"
    broken: Mapping[str, str] = FrozenDict({"model_new.py": ""})
    broken_entry = ""

    def _usable(self) -> Any:
        it = self.make()
        found = it.available()
        if not found.ok:
            import pytest

            pytest.skip(f"{it.name}: {found.detail}")
        return it

    def _good(self, it: Any) -> Candidate:
        return self.candidate(self.files, self.entry, it.name)

    def test_it_says_where_it_runs(self) -> None:
        """`runs` is "torch" or "null"."""
        assert self.make().runs in ("torch", "null")

    def test_it_says_whether_it_is_available(self) -> None:
        """Quickly, without raising, and with a mend when it is not."""
        start = time.perf_counter()
        found = self.make().available()
        assert time.perf_counter() - start < 5
        assert isinstance(found, Availability)
        assert found.detail
        assert found.ok or found.mend

    def test_it_builds(self, tmp_path: Path) -> None:
        """A good candidate becomes a folder inside the cache that a worker can load."""
        it = self._usable()
        build = it.build(self._good(it), self.problem, tmp_path)
        assert isinstance(build, Build)
        assert build.ok, build.log
        folder = Path(build.folder)
        assert folder.is_dir()
        assert folder.resolve().is_relative_to(tmp_path.resolve())
        assert it.runs != "torch" or (folder / "model_new.py").is_file()
        assert build.seconds >= 0

    def test_a_second_build_is_free(self, tmp_path: Path) -> None:
        """The same candidate gives the same folder, and nothing in it is written again."""
        it = self._usable()
        first = it.build(self._good(it), self.problem, tmp_path)
        before = _stamps(Path(first.folder))
        second = it.build(self._good(it), self.problem, tmp_path)
        assert second.ok
        assert second.folder == first.folder
        assert _stamps(Path(first.folder)) == before

    def test_other_files_build_elsewhere(self, tmp_path: Path) -> None:
        """Two candidates never share a folder unless their files are the same."""
        it = self._usable()
        other = {**self.files, self.entry: self.files[self.entry] + "\n"}
        built = it.build(self.candidate(other, self.entry, it.name), self.problem, tmp_path)
        assert built.folder != it.build(self._good(it), self.problem, tmp_path).folder

    def test_a_refusal_is_data(self, tmp_path: Path) -> None:
        """What cannot be built raises nothing: the Build says why, also when asked again."""
        it = self._usable()
        bad = self.candidate(self.broken, self.broken_entry or self.entry, it.name)
        for _ in range(2):
            build = it.build(bad, self.problem, tmp_path)
            assert not build.ok
            assert build.log.strip()

    def test_metrics_are_numbers(self, tmp_path: Path) -> None:
        """`inspect` maps names to floats, perhaps none."""
        it = self._usable()
        metrics = it.inspect(it.build(self._good(it), self.problem, tmp_path))
        assert isinstance(metrics, Mapping)
        assert all(isinstance(k, str) and isinstance(v, float) for k, v in metrics.items())


class MachineConformance(Conformance):
    """The contract of `epitaxy.machine.Machine`; a baseline is run when the machine has any."""

    folder = "machines"

    def test_it_has_a_chip(self) -> None:
        """A named Chip, without raising."""
        chip = self.make().chip()
        assert isinstance(chip, Chip)
        assert chip.name
        assert chip.cores >= 1

    def test_its_fingerprint_is_steady(self) -> None:
        """Names to texts, the same when asked again: it is what makes runs comparable."""
        it = self.make()
        first = it.fingerprint()
        assert first
        assert all(isinstance(k, str) and isinstance(v, str) for k, v in first.items())
        assert it.fingerprint() == first

    def test_it_has_a_home(self) -> None:
        """`home` is a folder's path, where builds are kept."""
        assert Path(self.make().home).is_absolute()

    def test_it_lists_its_baselines(self) -> None:
        """Names, each once."""
        names = list(self.make().baselines())
        assert all(isinstance(n, str) and n for n in names)
        assert len(set(names)) == len(names)

    def test_a_job_must_name_one_thing(self) -> None:
        """Neither a folder nor a baseline, or both, is an EpitaxyError."""
        import pytest

        for job in (
            Job(problem=self.problem),
            Job(problem=self.problem, folder="/", baseline="eager"),
        ):
            with pytest.raises(EpitaxyError), self.make().start(job):
                pass

    def test_a_worker_keeps_its_contract(self) -> None:
        """The first baseline computes what the reference does, and takes time."""
        it = self.make()
        names = list(it.baselines())
        if not names:
            import pytest

            with pytest.raises(EpitaxyError), it.start(Job(problem=self.problem, baseline="eager")):
                pass
            return
        reference: Any = open_reference(self.problem)
        with it.start(Job(problem=self.problem, baseline=names[0])) as worker:
            worker.prepare(reference.init_arguments(), reference.state())
            for slot in (0, 1):
                worker.write(slot, reference.inputs(slot))
            for slot in (0, 1):
                assert worker.burst([1 - slot, slot]) > 0
                inputs = reference.inputs(slot)
                assert reference.same(worker.inputs(slot), inputs)
                honest, exact = reference.run(inputs), reference.oracle(inputs)
                assert reference.error(worker.outputs(), exact, honest) < 1e-3


class ProposerConformance(Conformance):
    """The contract of `epitaxy.proposer.Proposer`; give `make` if it must be set up first."""

    folder = "proposers"
    counts = (1, 3)

    def view(self, **changes: Any) -> SampleView:
        """What the proposer sees."""
        return SampleView(problem=self.problem, **changes)

    def test_its_candidates_fit(self) -> None:
        """At most as many as asked for, each new, for this problem and a toolchain that is here."""
        for count in self.counts:
            view, it = self.view(), self.make()
            found = list(it.propose(view, count))
            assert len(found) <= count
            assert len({c.digest for c in found}) == len(found)
            for candidate in found:
                assert isinstance(candidate, Candidate)
                assert candidate.problem == view.problem.digest
                assert candidate.toolchain in view.toolchains
                assert candidate.proposer

    def test_it_does_not_repeat_itself(self) -> None:
        """What is pending is not proposed again."""
        it = self.make()
        first = list(it.propose(self.view(), max(self.counts)))
        second = it.propose(self.view(waiting=tuple(first)), max(self.counts))
        assert not {c.digest for c in first} & {c.digest for c in second}

    def test_it_ends_with_a_reason(self) -> None:
        """An empty answer comes with one line that says why."""
        it = self.make()
        waiting: list[Candidate] = []
        for _ in range(5):
            found = list(it.propose(self.view(waiting=tuple(waiting)), max(self.counts)))
            waiting += found
            if not found:
                assert it.stop_reason().strip()
                assert "\n" not in it.stop_reason().strip()
                return

    def test_it_takes_any_verdict(self) -> None:
        """Failures of every kind are learnt from without raising, none at all too."""
        it = self.make()
        it.learn([])
        for candidate in it.propose(self.view(), 1):
            for status in ("build_failed", "refused", "incorrect", "crashed", "machine_fault"):
                it.learn([_failed(candidate, status)])


class CheckConformance(Conformance):
    """The contract of `epitaxy.check.Check`; set `bad` to files that it must refuse."""

    folder = "checks"
    toolchain = "cpp"
    good: Mapping[str, str] = FrozenDict({"model_new.py": MODEL})
    bad: Mapping[str, str] = FrozenDict()

    def _findings(self, files: Mapping[str, str]) -> list[Finding]:
        it = self.make()
        candidate = self.candidate(files, next(iter(files)), self.toolchain)
        found = list(it.check(candidate, self.problem))
        assert all(isinstance(f, Finding) and f.check == it.name and f.message for f in found)
        return found

    def test_it_lets_honest_code_pass(self) -> None:
        """No refusal of `good`."""
        assert not [f for f in self._findings(self.good) if f.severity == "refusal"]

    def test_it_refuses_its_own_bad_candidate(self) -> None:
        """A refusal of `bad`, with a mend."""
        assert self.bad, "set `bad` to the files of a candidate that this check must refuse"
        refusals = [f for f in self._findings(self.bad) if f.severity == "refusal"]
        assert refusals
        assert all(f.mend for f in refusals)

    def test_odd_sources_raise_nothing(self) -> None:
        """Empty, broken and hostile texts are findings or nothing, never an exception."""
        for text in ("", "\0\x01", "def (", "(" * 300, "é\u2028\ud7ff", "#" * 10_000, "\t\n  x"):
            self._findings({"model_new.py": text})
            self._findings({"kernel.cpp": text, "forward.py": text})

    def test_it_does_not_run_the_candidate(self, tmp_path: Path) -> None:
        """Reading sources leaves no trace of having executed them."""
        mark = tmp_path / "it ran"
        with suppress(EpitaxyError):
            self._findings({"model_new.py": f"open({str(mark)!r}, 'w').close()\n{MODEL}"})
        assert not mark.exists()


def _stamps(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def _failed(candidate: Candidate, status: str) -> Verdict:
    return Verdict(
        candidate=candidate.digest, problem=candidate.problem, machine="sample",
        plan="screen", status=status, reason="a sample",
    )  # fmt: skip
