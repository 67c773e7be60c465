"""Records: every field counts, they survive storage, and contradictions cannot be built."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import pickle
import pkgutil
import types
import typing

import fake_records
import pytest

import epitaxy
from epitaxy.candidate import Candidate
from epitaxy.chain import Audit, Fault
from epitaxy.chip import Chip, Fact, Level
from epitaxy.compiler import Compiler
from epitaxy.errors import BadCandidate, BadInput, BadProblem
from epitaxy.guides import Guide, Pattern
from epitaxy.knowledge import Asked, Found
from epitaxy.knowledge_files import Imported
from epitaxy.lesson import Lesson
from epitaxy.machine import Job
from epitaxy.mutate import Mutant
from epitaxy.precision import Precision
from epitaxy.problem import Policy, Problem, TensorSpec, Work
from epitaxy.quiet import Activity
from epitaxy.record import FrozenDict, Record, canonical
from epitaxy.study import Budget, Progress
from epitaxy.timing import Plan
from epitaxy.toolchain import Availability, Build, StandIn
from epitaxy.verdict import Comparison, ErrorRow, Finding, Floor, Verdict

FULL = fake_records.accepted(fake_records.candidate(fake_records.problem(), 4), 1e-3)
FACT = Fact(value=1.5, unit="W", confidence="A", sources=("doc",))
FAULT = Fault(number=2, table="events", key="1", what="the row is gone")
LESSON = Lesson(
    kind="step", move="a 0 -> 1", effect="helped", problem="p", operators=("exp",), ratio=2.0,
    low=1.9, high=2.1, of_limit=0.5, evidence="e",
)  # fmt: skip
EXAMPLES: list[Record] = [
    LESSON,
    Found(lesson=LESSON, score=0.5, parts=FrozenDict(operators=0.5)),
    Asked(operators=("exp",)),
    Imported(origin="a team", new=1, known=2),
    Pattern(
        name="a",
        title="A",
        toolchains=("cpp",),
        chips=("c",),
        body="- b [S]",
        sources=FrozenDict(S="s"),
    ),
    Guide(
        name="a",
        title="A",
        chip="c",
        measured=True,
        toolchains=("cpp",),
        text="t",
        sources=FrozenDict(S="s"),
    ),
    Mutant(operator="bound short", line=3, before="9", after="8", text="int x[8];"),
    FAULT,
    Audit(links=2, rows=2, adopted=0, head="0" * 64, faults=(FAULT,)),
    fake_records.SPEC,
    Work(flops=1.0),
    Policy(),
    Precision(name="p", about="a", operands="all", bits=8, slack=2.0),
    fake_records.problem(),
    fake_records.candidate(fake_records.problem(), 4),
    FULL,
    FULL.floor,
    FULL.comparisons[0],
    FULL.errors[0],
    Finding(check="a", severity="note", message="m"),
    fake_records.CHIP,
    fake_records.CHIP.levels[0],
    FACT,
    Availability(ok=True, detail="g++"),
    StandIn(name="an interpreter", preload=("m",), environment=FrozenDict(A="1")),
    Build(ok=True, folder="/a"),
    Job(problem=fake_records.problem(), folder="/a"),
    Plan(name="p", rounds=5, processes=1, cases=1, rechecks=1, limit_s=1.0),
    Activity(wall_s=1.0, cores=4, busy_s=2.0, stolen_s=0.1, own_s=1.5),
    Budget(seconds=3.0),
    Compiler(path="/g++", kind="gcc", version="12"),
    Progress(phase="building"),
]
# Some fields can only change together with another, or to certain values.
CHANGES: dict[tuple[str, str], dict[str, object]] = {
    ("Found", "lesson"): {"lesson": LESSON.replace(move="b 0 -> 1")},
    ("Lesson", "kind"): {"kind": "win"},
    ("Lesson", "effect"): {"effect": "hurt", "ratio": 0.5, "low": 0.4, "high": 0.6},
    ("Lesson", "ratio"): {"ratio": 2.05},
    ("Lesson", "low"): {"low": 1.8},
    ("TensorSpec", "dtype"): {"dtype": "float64"},
    ("Policy", "weights"): {"weights": "live"},
    ("Policy", "precision"): {"precision": "tf32-like"},
    ("Policy", "special"): {"special": "none"},
    ("Problem", "policy"): {"policy": Policy(precision="tf32-like")},
    ("Precision", "operands"): {"operands": "contractions"},
    ("Candidate", "entry"): {"entry": "kernel.cpp"},
    ("Candidate", "files"): {"files": {"forward.py": "other"}},
    ("Verdict", "basis"): {
        "basis": "checked", "time_s": None, "samples": {}, "comparisons": (), "energy_j": None,
    },
    ("Verdict", "status"): {
        "status": "crashed", "time_s": None, "samples": {}, "comparisons": (), "reason": "x",
    },
    ("Comparison", "speedup"): {"speedup": 2.11},
    ("Comparison", "outcome"): {"outcome": "no evidence", "low": 0.5},
    ("Verdict", "condition"): {"condition": "cold"},
    ("Verdict", "determinism"): {"determinism": "bitwise"},
    ("verdict.Finding", "severity"): {"severity": "warning"},
    ("metric.Bottleneck", "severity"): {"severity": "low"},
    ("metric.Bottleneck", "gain"): {"gain": 0.5},
    ("Explored", "verdict"): {"verdict": "refuted"},
    ("Fact", "confidence"): {"confidence": "B"},
    ("Comparison", "low"): {"low": 2.05},
    ("Floor", "compute_s"): {"compute_s": 2e-5},
    ("Floor", "memory_s"): {"memory_s": 1e-3},
    ("Fact", "sources"): {"sources": ("other",)},
    ("Problem", "outputs"): {"outputs": (fake_records.SPEC, fake_records.SPEC)},
    ("Budget", "candidates"): {"candidates": 3, "seconds": None},
}  # fmt: skip


def every_record() -> set[type[Record]]:
    """Import the whole package; every Record subclass in it."""
    for module in pkgutil.walk_packages(epitaxy.__path__, "epitaxy."):
        light = (
            "worker",
            "references",
            "baselines",
            "proposers.grower",
            "__main__",
            "commands",
            "_triton_interpreter",
        )
        if not any(part in module.name for part in light):
            importlib.import_module(module.name)
    found, new = set(), [Record]
    while new:
        for kind in new.pop().__subclasses__():
            new.append(kind)
            found.add(kind)
    return {k for k in found if k.__module__.startswith("epitaxy.")}


def other(value: object, hint: object) -> object:
    """A different value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 1.01 + 1 if isinstance(value, float) else value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return value[:-1] if value else (example(typing.get_args(hint)[0]),)
    if isinstance(value, FrozenDict):
        rest = dict(list(value.items())[1:])
        return rest if value else {"new": example(typing.get_args(hint)[0])}
    if isinstance(value, Record):
        name = dataclasses.fields(value)[0].name
        return value.replace(**{name: other(getattr(value, name), None)})
    assert value is None, value
    inner = [a for a in typing.get_args(hint) if a is not types.NoneType]
    return example(inner[0])


def example(hint: object) -> object:
    """Some value of the hinted kind."""
    origin = typing.get_origin(hint)
    if origin in (tuple, FrozenDict):
        args = [a for a in typing.get_args(hint) if a is not Ellipsis]
        made = tuple(example(a) for a in args)
        return made if origin is tuple else {"k": made[0]}
    if isinstance(hint, type) and issubclass(hint, Record):
        return next(e for e in EXAMPLES if type(e) is hint)
    plain = {str: "x", int: 2, float: 2.5, bool: True}
    if hint in plain:
        return plain[typing.cast(type, hint)]
    return example(typing.get_args(hint)[0])  # a union


ANSWERS = (
    "epitaxy.cards", "epitaxy.serve.", "epitaxy.profiling.", "epitaxy.experiments.",
    "epitaxy.rulebook",
)  # fmt: skip
"""What tools answer, and what is read from data files, is stored nowhere; the tests of tools,
experiments and rules read it."""


# Where not every text will do.
FIRST = {"severity": "high", "verdict": "confirmed", "gain": 0.25, "share": 0.5}


def drawn(hint: object) -> object:
    """As `example`, records made of examples of their fields where none stands in EXAMPLES."""
    if isinstance(hint, type) and issubclass(hint, Record):
        ready = [e for e in EXAMPLES if type(e) is hint]
        if ready:
            return ready[0]
        kinds = typing.get_type_hints(hint)
        names = [f.name for f in dataclasses.fields(hint)]
        return hint(**{n: FIRST.get(n) or drawn(kinds[n]) for n in names})
    origin = typing.get_origin(hint)
    if origin in (tuple, FrozenDict):
        args = [a for a in typing.get_args(hint) if a is not Ellipsis]
        return tuple(map(drawn, args)) if origin is tuple else {"k": drawn(args[0])}
    return example(hint) if not typing.get_args(hint) else drawn(typing.get_args(hint)[0])


def rest() -> list[Record]:
    """One of every record that is stored and has no example above."""
    missing = every_record() - {type(e) for e in EXAMPLES} - {Record}
    stored = [k for k in missing if not k.__module__.startswith(ANSWERS)]
    found = []
    for kind in sorted(stored, key=lambda k: (k.__module__, k.__name__)):
        made = drawn(kind)
        assert isinstance(made, kind)
        found.append(made)
    return found


EXAMPLES += rest()
FIELDS = [(e, f.name) for e in EXAMPLES for f in dataclasses.fields(e)]
NAMES = [f"{type(e).__name__}.{name}" for e, name in FIELDS]


@pytest.mark.parametrize(("example_", "name"), FIELDS, ids=NAMES)
def test_each_field_changes_the_digest(example_, name):
    hint = typing.get_type_hints(type(example_))[name]
    kind = f"{type(example_).__module__}.{type(example_).__name__}".removeprefix("epitaxy.")
    change = CHANGES.get((kind, name)) or CHANGES.get((type(example_).__name__, name))
    if change is None:
        change = {name: other(getattr(example_, name), hint)}
    try:
        changed = example_.replace(**change)
    except BadInput as error:
        pytest.fail(f"the test builds a contradiction: {error}")
    assert changed != example_
    assert changed.digest != example_.digest


@pytest.mark.parametrize("example_", EXAMPLES, ids=lambda e: type(e).__name__)
class TestEvery:
    def test_survives_storage(self, example_):
        back = type(example_).from_dict(json.loads(canonical(example_)))
        assert back == example_
        assert back.digest == example_.digest
        assert hash(back) == hash(example_)

    def test_survives_pickling(self, example_):
        assert pickle.loads(pickle.dumps(example_)) == example_

    def test_is_frozen(self, example_):
        for field in dataclasses.fields(example_):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(example_, field.name, None)

    def test_refuses_unknown_fields(self, example_):
        with pytest.raises(BadInput, match="colour"):
            type(example_).from_dict({**example_.to_dict(), "colour": "red"})


def test_missing_fields_are_an_error():
    with pytest.raises(BadInput, match="Candidate"):
        Candidate.from_dict({"problem": "p"})


def test_the_digest_ignores_the_order_of_keys():
    one = fake_records.candidate(fake_records.problem(), 1)
    assert one.replace(files=dict(reversed(list(one.files.items())))).digest == one.digest


def test_the_digest_tells_types_apart():
    class One(Record):
        pass

    class Two(Record):
        pass

    assert One().digest != Two().digest


def test_lists_and_dicts_are_frozen_on_the_way_in():
    made = Build(ok=True, folder="", fingerprint={"a": "b"})
    assert isinstance(made.fingerprint, FrozenDict)
    assert TensorSpec(shape=[2, 3], dtype="int8").shape == (2, 3)
    with pytest.raises(BadInput, match="object"):
        Build(ok=True, folder=object())


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_errors_survive_storage(value):
    row = ErrorRow(distribution="d", error=value, honest=0.0, limit=1.0)
    assert ErrorRow.from_dict(json.loads(canonical(row))) == row


def test_a_nan_error_survives_storage_and_is_not_ok():
    row = ErrorRow(distribution="d", error=math.nan, honest=0.0, limit=1.0)
    assert not row.ok
    assert math.isnan(ErrorRow.from_dict(json.loads(canonical(row))).error)


BAD_ROW = ErrorRow(distribution="d", error=2.0, honest=0.1, limit=1.0)
NAN_ROW = BAD_ROW.replace(error=math.nan)
REFUSAL = Finding(check="c", severity="refusal", message="m", mend="n")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "splendid"},
        {"time_s": None},
        {"errors": (BAD_ROW,)},
        {"errors": (NAN_ROW,)},
        {"findings": (REFUSAL,)},
        {"status": "crashed", "reason": "x"},
        {"status": "crashed", "reason": "x", "time_s": None},
        {"status": "crashed", "reason": "x", "time_s": None, "samples": {}},
        {"status": "crashed", "time_s": None, "samples": {}, "comparisons": ()},
    ],
)
def test_a_contradictory_verdict_cannot_be_built(change):
    with pytest.raises(BadInput):
        FULL.replace(**change)


@pytest.mark.parametrize(
    "change",
    [{"low": 2.2}, {"high": 2.0}, {"outcome": "slower"}, {"outcome": "good"}, {"low": 0.9},
     {"low": math.nan}],
)  # fmt: skip
def test_a_contradictory_comparison_cannot_be_built(change):
    with pytest.raises(BadInput):
        FULL.comparisons[0].replace(**change)


def test_other_contradictions_cannot_be_built():
    with pytest.raises(BadInput):
        Floor(time_s=1.0, limit="memory", compute_s=2.0, memory_s=1.0, measured=True)
    with pytest.raises(BadInput):
        Finding(check="c", severity="fatal", message="m")
    with pytest.raises(BadInput):
        Fact(value=1, unit="W", confidence="C", sources=("doc",))
    with pytest.raises(BadInput):
        Fact(value=1, unit="W", confidence="A", sources=())
    with pytest.raises(BadProblem):
        TensorSpec(shape=(0,), dtype="float32")
    with pytest.raises(BadProblem):
        TensorSpec(shape=(1,), dtype="complex64")
    with pytest.raises(BadProblem):
        Policy(weights="warm")
    with pytest.raises(BadProblem):
        Policy(error_ratio=math.nan)
    with pytest.raises(BadProblem):
        fake_records.problem().replace(outputs=())


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.py", "a/../../b", ""])
def test_a_candidate_cannot_leave_its_folder(name):
    with pytest.raises(BadCandidate):
        Candidate(problem="p", toolchain="null", files={name: "x"}, entry=name, proposer="t")


def test_a_candidate_has_its_entry():
    with pytest.raises(BadCandidate, match=r"gone\.py"):
        Candidate(problem="p", toolchain="null", files={"a": "x"}, entry="gone.py", proposer="t")


def test_what_a_verdict_says():
    assert FULL.speedup == min(c.speedup for c in FULL.comparisons)
    assert FULL.of_limit == pytest.approx(1.6)
    clever = FULL.replace(algebra=2.0)
    assert clever.silicon == pytest.approx(FULL.speedup / 2)
    assert clever.of_limit == pytest.approx(0.8)
    bare = FULL.replace(comparisons=(), floor=None)
    assert bare.silicon is None
    assert bare.speedup is None
    assert bare.of_limit is None
    assert isinstance(FULL.strongest, Comparison)
    assert isinstance(FULL, Verdict)
    assert isinstance(fake_records.CHIP, Chip)
    assert isinstance(fake_records.CHIP.levels[0], Level)
    assert isinstance(fake_records.problem(), Problem)
