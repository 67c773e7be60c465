"""Experiments: what makes a verdict, and what refuses a pair. Nothing is built or timed."""

import json
import random

import pytest

from epitaxy.cli import DONE, UNUSABLE, main
from epitaxy.errors import BadInput, UnknownName
from epitaxy.experiments import building, gate, recipe, verdicts
from epitaxy.experiments.process import A, Failed
from epitaxy.experiments.recipe import Variant
from epitaxy.probe import explored
from epitaxy.timing import Taken

RECIPE = """
name = "half-the-work"
hypothesis = "Half the work takes half the time."
x = [1, 2]
out = "64 B"
[a]
name = "whole"
code = "long n = 0;"
[b]
name = "half"
code = "long n = 1;"
[[claims]]
x = [2]
at_least = 1.8
at_most = 2.2
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path))


def rounds(ratio, spread, count=14, seed=0):
    """Recorded times of three processes: a takes `ratio` times as long as b."""
    rng = random.Random(seed)
    taken = []
    for _ in range(3):
        own = rng.gauss(0, spread / 2)
        b = [1e-3 * (1 + rng.gauss(0, spread)) for _ in range(count)]
        a = [t * ratio * (1 + own) * (1 + rng.gauss(0, spread)) for t in b]
        waits = [0.0] * count
        taken.append(Taken({"a": a, "candidate": b}, {"a": waits, "candidate": waits}, [1e-4] * 9))
        taken[-1].pulses[:] = [1e-4] * count
    return taken


@pytest.mark.parametrize(
    ("ratio", "spread", "says"),
    [(2.0, 0.005, "holds"), (1.2, 0.005, "fails"), (3.0, 0.005, "fails"), (1.9, 0.2, "open")],
)
def test_samples_become_an_answer(ratio, spread, says):
    experiment = recipe.parse(RECIPE, "mine.toml")
    point = verdicts.measured(experiment, "64 KiB", 65536, 2.0, rounds(ratio, spread))
    assert point.says == says
    assert point.low <= point.ratio <= point.high
    expected = {"holds": "confirmed", "fails": "refuted", "open": "inconclusive"}
    assert verdicts.verdict([point], every=True) == expected[says]


def test_a_point_that_no_claim_covers_decides_nothing():
    experiment = recipe.parse(RECIPE, "mine.toml")
    inside = verdicts.measured(experiment, "64 KiB", 65536, 2.0, rounds(2.0, 0.005))
    outside = verdicts.measured(experiment, "64 KiB", 65536, 1.0, rounds(9.0, 0.005))
    assert outside.says == "outside"
    assert verdicts.verdict([inside, outside], every=True) == "confirmed"
    assert verdicts.verdict([outside], every=True) == "inconclusive"


@pytest.mark.parametrize(
    ("said", "every", "answer"),
    [
        (["holds", "holds"], True, "confirmed"), (["holds", "open"], True, "inconclusive"),
        (["holds", "fails"], True, "refuted"), (["fails", "open"], True, "refuted"),
        (["holds", "fails"], False, "confirmed"), (["fails", "fails"], False, "refuted"),
        (["fails", "open"], False, "inconclusive"), ([], True, "inconclusive"),
    ],
)  # fmt: skip
def test_all_points_or_one(said, every, answer):
    experiment = recipe.parse(RECIPE, "mine.toml")
    point = verdicts.measured(experiment, "64 KiB", 65536, 2.0, rounds(2.0, 0.005))
    assert verdicts.verdict([point.replace(says=s) for s in said], every) == answer


def test_what_a_sweep_finds():
    experiment = recipe.parse(RECIPE, "mine.toml").replace(find="enough", x_name="chains")
    point = verdicts.measured(experiment, "64 KiB", 65536, 2.0, rounds(2.0, 0.005))
    points = [point.replace(x=float(x), ratio=r) for x, r in ((1, 1.0), (4, 3.9), (8, 4.0))]
    assert verdicts.found(experiment, points) == "chains = 4 at 64 KiB"
    assert verdicts.found(experiment.replace(find="best"), points) == "chains = 8 at 64 KiB"


PLAIN = """
0000000000000000 <kernel_a>:
   0:\tmov    (%rdi),%rax
  10:\tvmovaps %ymm0,(%rax)
  14:\tadd    $0x20,%rax
  18:\tcmp    %rax,%rdx
  1b:\tjne    10 <kernel_a+0x10>
  1d:\tret
"""
STREAMS = PLAIN.replace("vmovaps %ymm0,(%rax)", "vmovntps %ymm0,(%rax)")


def test_a_kernel_without_its_instruction_is_refused():
    wanted = Variant(name="streams", code="", contains=(r"vmovntps\s",))
    assert building.check(STREAMS, wanted) == ""
    assert "no loop holds" in building.check(PLAIN, wanted)
    outside = PLAIN.replace("mov    (%rdi),%rax", "vmovntps %ymm0,(%rax)")
    assert "no loop holds" in building.check(outside, wanted)
    assert building.check(outside, wanted.replace(contains=(r"anywhere: vmovntps\s",))) == ""


def test_a_control_with_the_instruction_is_refused():
    control = Variant(name="plain", code="", contains=(r"vmov[an]",), lacks=(r"vmovnt",))
    assert building.check(PLAIN, control) == ""
    assert "it holds 'vmovntps" in building.check(STREAMS, control)


SASS = """
.text.device_kernel_b:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.NA.LTC256B.128 R4, desc[UR4][R2.64] ;
"""


def test_instructions_of_a_gpu():
    from epitaxy.experiments import gpu

    wanted = Variant(name="", code="", contains=(r"LDG\.E\.NA\.LTC256B\.128",), lacks=(r"ATOMS",))
    assert gpu.check(SASS, wanted) == ""
    assert "nothing matches" in gpu.check(SASS.replace(".NA", ""), wanted)
    assert "it holds 'MOV" in gpu.check(SASS, wanted.replace(lacks=("MOV",)))


def test_a_loop_that_spills_is_refused():
    spilled = PLAIN.replace("add    $0x20,%rax", "vmovaps %ymm1,0x20(%rsp)")
    assert "spills" in building.check(spilled, Variant(name="", code="", contains=(r"vmovaps",)))


class Shown:
    """Stands in for a pair: outputs by variant, each over its poison."""

    def __init__(self, a, b):
        self.outputs = (a, b)

    def output(self, variant, poison):
        return bytes(poison if byte is None else byte for byte in self.outputs[variant])


def test_an_unequal_pair_is_refused():
    gate.check(Shown([1, 2, 3, 4], [1, 2, 3, 4]))
    with pytest.raises(Failed, match="do not compute the same: 1 of 4 bytes"):
        gate.check(Shown([1, 2, 3, 4], [1, 2, 3, 5]))


@pytest.mark.parametrize("lazy", [[1, None], [None, None]])
def test_unwritten_output_is_refused(lazy):
    with pytest.raises(Failed, match="unwritten"):
        gate.check(Shown(lazy, lazy))
    with pytest.raises(Failed, match="do not compute the same"):
        gate.check(Shown([1, 0], [1, None]))


def test_tolerance_is_for_numbers():
    import numpy as np

    ones = np.ones(8, np.float32)
    near, far = (list((ones * f).astype(np.float32).tobytes()) for f in (1 + 1e-6, 1 + 1e-3))
    first = list(ones.tobytes())
    gate.check(Shown(first, near), 1e-5)
    with pytest.raises(Failed, match="values differ"):
        gate.check(Shown(first, far), 1e-5)
    with pytest.raises(Failed, match="not finite"):
        gate.check(Shown(first, [255] * 32), 1e-5)


def test_the_catalogue_is_sound():
    known = recipe.catalogue()
    assert len({e.name for e in known}) == len(known)
    for experiment in known:
        assert experiment.source, f"{experiment.name} names no source"
        assert experiment.mechanism
        assert experiment.a.contains or experiment.b.contains, experiment.name
        assert experiment.a.code != experiment.b.code or experiment.a.pages != experiment.b.pages


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("at_least = 1.8\nat_most = 2.2", ""), "without a bound"),
        (("x = [2]\n", "x = [3]\n"), "covers no point"),
        (("at_least = 1.8", "at_least = 2.5"), "nothing can meet"),
        (('out = "64 B"', 'out = "64 parsecs"'), "is not understood"),
        (('out = "64 B"', 'out = "64 B"\nflags = ["-fopenmp -o /x"]'), "is not allowed"),
        (('out = "64 B"', 'out = "64 B"\nflags = ["-wrapper"]'), "is not allowed"),
        (('name = "whole"', 'name = "whole"\ncontains = ["("]'), "is broken"),
        (('name = "whole"', 'name = "whole"\nspeed = 3'), "no field 'speed'"),
        (("[[claims]]", "[claims]"), "claims"),
        (('name = "half-the-work"', 'name = "../x"'), "will not do"),
        (("half-the-work", "gather"), "gather is in the catalogue"),
        (("takes half the time", "takes\\u001b[31m half"), "printable"),
        (("x = [1, 2]", "x = 3"), "cannot be read"),
        (("[a]", "[c]"), "[a] is missing"),
        (("[a]", "[["), "is no TOML"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, capsys, change, says):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.replace(*change))
    assert main(["explore", str(path)]) == UNUSABLE
    line = capsys.readouterr().err.strip()
    assert says in line
    assert len(line.splitlines()) == 1


def test_unknown_names_have_near_ones(capsys):
    assert main(["explore", "denormal-cost"]) == UNUSABLE
    assert "did you mean 'denormals-cost'?" in capsys.readouterr().err
    with pytest.raises(UnknownName):
        recipe.find("nothing")
    with pytest.raises(BadInput, match="cannot read"):
        recipe.find("absent.toml")


def result(verdict="confirmed", **more):
    return explored.Explored(
        name="denormals-cost", hypothesis="They cost.", verdict=verdict, effect="2x (1.9–2.1)",
        conditions={"compiler": "gcc"}, measured_on="2026-01-01T00:00:00+00:00", **more,
    )  # fmt: skip


def test_results_are_kept_with_their_conditions(capsys):
    explored.save(result())
    explored.save(result("refuted"))
    known = explored.load()
    assert [r.verdict for r in known.values()] == ["refuted"]
    assert known["denormals-cost"].conditions["compiler"] == "gcc"
    assert main(["explore", "--json"]) == DONE
    listed = json.loads(capsys.readouterr().out)["catalogue"]
    row = next(r for r in listed if r["name"] == "denormals-cost")
    assert row["last"] == "refuted"
    fact = explored.facts()["denormals-cost"]
    assert fact.value.startswith("refuted: They cost.")


def test_this_machines_chip_shows_them(capsys):
    explored.save(result())
    assert main(["chips", "local"]) == DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "denormals-cost confirmed: They cost. [2x (1.9–2.1)] [measured]" in said
    assert "levels and peaks: run `epitaxy probe`" in said


def test_only_answers_become_facts():
    explored.save(result("refused", why="unequal"))
    assert explored.facts() == {}


def test_what_cannot_run_here_says_why():
    from epitaxy.experiments import explore, impossible

    own = recipe.parse(RECIPE, "mine.toml")
    needy = own.replace(needs=("avx9000",))
    assert impossible(needy) == "this machine has no avx9000"
    assert impossible(own.replace(threads=1024)).startswith("it needs 1024 cores")
    answer = explore(needy)
    assert (answer.verdict, answer.why) == ("impossible", "this machine has no avx9000")
    assert explored.load() == {}


def test_gpus_are_asked_for():
    from epitaxy.experiments import explore, gpu, impossible

    experiments = [e for e in recipe.catalogue() if e.language == "cuda"]
    assert len(experiments) >= 10
    if not gpu.here():
        assert "needs an NVIDIA GPU" in impossible(experiments[0])
        assert explore(experiments[0]).verdict == "impossible"


def test_sizes_are_this_machines():
    from epitaxy.experiments.running import bytes_of
    from epitaxy.probe import host

    assert bytes_of("64 KiB") == 65536
    assert bytes_of("0.5 size", {"size": 4096}) == 2048
    if "L1" in host.caches():
        assert bytes_of("2 L1") == 2 * host.caches()["L1"]
    with pytest.raises(BadInput):
        bytes_of("1 size")
    assert A == 0
