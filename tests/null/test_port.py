"""Porting: what a tiling tells, what of it is carried over, and how the report shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from epitaxy import port as report
from epitaxy.candidate import Candidate
from epitaxy.chip_facts import find
from epitaxy.cli import main
from epitaxy.errors import BadCandidate, BadInput, UnknownName
from epitaxy.ledger import Ledger
from epitaxy.porting import (
    Moved,
    Original,
    chip_for,
    judge_original,
    read_original,
    toolchain_named,
    writer_of,
)
from epitaxy.proposers import _carry
from epitaxy.proposers._carry import CARRIED, CHANGED, OWN, UNLIKE, Dialect, carry, tell
from epitaxy.proposers._genomes import Choices, changed
from epitaxy.record import FrozenDict
from epitaxy.testing import PROBLEM
from epitaxy.tiling import read_constants
from epitaxy.verdict import ErrorRow, Verdict

H100, MI300X, TPU = find("h100_sxm"), find("mi300x"), find("tpu_v6e")
HAND = """import triton, triton.language as tl
BM, BN = 128, 64

@triton.jit
def k(x, y, n, BLOCK_K: tl.constexpr = 32, UNHEARD: tl.constexpr = 7):
    pass

def run(x):
    k[(1,)](x, x, 3, num_warps=8, num_stages=3, eps=5)
"""


def triton(genome="region0(block_m=128 block_n=64 block_k=32 warps=8 stages=3 group=8)"):
    return Candidate(
        problem=PROBLEM.digest, toolchain="triton_nvidia", files={"kernels.py": "pass"},
        entry="kernels.py", proposer="triton", genome=genome, regions=("region0: aten.mm",),
    )  # fmt: skip


def dialect(toolchain):
    return writer_of(toolchain_named(toolchain)).dialect


@dataclass(frozen=True)
class Area:
    name: str = "region0"
    source: tuple[str, ...] = ("aten.mm",)


class Target:
    """A captured program of one region whose tile may have so many elements at most."""

    def __init__(self, most=1 << 30, source=("aten.mm",)):
        self.regions = (Area(source=source),)
        self.start = (("region0", Choices(rows=8, columns=128, depth=512, lead=1)),)
        self.spaces = {"region0": {"rows": (8, 16, 32, 64), "columns": (128, 256), "depth": (128,)}}
        self.most = most

    def changed(self, genome, region, decision, value):
        return changed(genome, region, decision, value)

    def fault(self, genome):
        its = dict(genome)["region0"]
        held = its["rows"] * its["columns"]
        return f"{held} bytes, VMEM has {self.most}" if held > self.most else ""


@pytest.fixture(autouse=True)
def _products(monkeypatch):
    monkeypatch.setattr(_carry, "kind_of", lambda region: "product")


def outcomes(carried):
    return {c.said: (c.used, c.outcome) for c in carried}


def test_a_genome_tells_what_its_decisions_mean():
    (told,) = tell(triton(), dialect("triton_nvidia"), H100)
    assert told.region == "aten.mm"
    assert told.meant("product")["block_n"] == "columns"
    assert told.meant("rows")["block_n"] == "folded"
    assert told.values["warps of 32 lanes"] == 256
    assert "block_k" not in told.meant("elements")


def test_constants_of_a_kernel_that_people_wrote_are_read_by_name():
    told = read_constants({"k.py": HAND}, lanes=32)
    assert dict(told.values) == {
        "BM": 128, "BN": 64, "BLOCK_K": 32, "num_stages": 3, "num_warps of 32 lanes": 256,
    }  # fmt: skip
    assert told.meant("product")["BM"] == "rows"
    c = read_constants({"k.cpp": "constexpr int BLOCK_M = 96;\n#define BLOCK_N 48\n"})
    assert dict(c.values) == {"BLOCK_M": 96, "BLOCK_N": 48}
    assert read_constants({"k.py": "def f(x):\n    return x + 7\n"}) is None
    assert read_constants({"k.py": "def broken("}) is None


def test_what_both_languages_have_is_carried_and_the_rest_is_said():
    told = tell(triton(), dialect("triton_nvidia"), H100)
    genome, carried = carry(Target(), told, dialect("pallas_tpu"), TPU)
    assert dict(genome)["region0"] == Choices(rows=64, columns=128, depth=128, lead=1)
    found = outcomes(carried)
    assert found["block_m=128"] == ("rows=64", CHANGED)
    assert found["block_n=64"] == ("columns=128", CHANGED)
    assert found["stages=3"] == ("", UNLIKE)
    why = next(c.why for c in carried if c.said == "block_m=128")
    assert why == "pallas takes 8 to 64 here"


def test_a_tiling_over_a_limit_shrinks_until_it_fits_and_names_the_limit():
    told = tell(triton(), dialect("triton_nvidia"), H100)
    genome, carried = carry(Target(most=2048), told, dialect("pallas_tpu"), TPU)
    assert dict(genome)["region0"]["rows"] == 16
    last = carried[-1]
    assert (last.said, last.used, last.why) == ("rows=32", "rows=16", "4096 bytes, VMEM has 2048")
    genome, carried = carry(Target(most=7), told, dialect("pallas_tpu"), TPU)
    assert genome == Target().start
    assert carried[-1].outcome == OWN


def test_a_region_that_the_original_does_not_have_keeps_the_first_guess():
    told = tell(triton(), dialect("triton_nvidia"), H100)
    genome, carried = carry(Target(source=("aten.bmm",)), told, dialect("pallas_tpu"), TPU)
    assert genome == Target().start
    assert [c.outcome for c in carried] == [OWN]
    assert carry(Target(), (), dialect("pallas_tpu"), TPU)[0] == Target().start


def test_warps_are_carried_by_their_lanes():
    here = dialect("triton_amd")

    class Amd(Target):
        def __init__(self):
            super().__init__()
            self.start = (("region0", Choices(warps=2, block_m=16)),)
            self.spaces = {"region0": {"warps": (1, 2, 4, 8, 16), "block_m": (16, 32, 64, 128)}}

        def fault(self, genome):
            return ""

    _, carried = carry(Amd(), tell(triton(), dialect("triton_nvidia"), H100), here, MI300X)
    assert outcomes(carried)["warps of 32 lanes=256"] == ("warps=4", CARRIED)


def test_a_genome_of_other_decisions_is_refused():
    with pytest.raises(BadInput, match="unknown decision"):
        tell(triton("region0(unheard=3)"), dialect("triton_nvidia"), H100)


def test_every_meaning_is_of_a_decision_that_there_is():
    for name in ("triton_nvidia", "pallas_tpu", "nki_trainium", "cpp"):
        its: Dialect = dialect(name)
        assert {d for kind in its.meanings.values() for d in kind} <= set(its.decisions)


# -- bad input ------------------------------------------------------------------------------------


def refusal(capsys, *arguments):
    assert main(["port", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("x", "--to", "triton-intel"), "triton"),
        (("x", "--to", "torch"), "nothing is grown for torch"),
        (("x", "--to", "triton-amd", "--chip", "h100_sxm"), "triton_amd does not build for NVIDIA"),
        (("x", "--to", "cpp", "--chip", "mi300x"), "builds for this machine"),
        (("x", "--to", "nki-trainium", "--budget", "soon"), "budget"),
        (("./none.py", "--to", "nki-trainium"), "does not exist"),
    ],
)
def test_wrong_words_are_one_line_with_a_mend(capsys, tmp_path, monkeypatch, arguments, says):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path))
    said = refusal(capsys, *arguments)
    assert says in said
    assert said.count("\n") == 1
    assert " — " in said


def test_names_and_chips():
    assert toolchain_named("Triton-NVIDIA").name == "triton_nvidia"
    with pytest.raises(UnknownName):
        toolchain_named("cobol")
    assert chip_for(toolchain_named("triton-amd")).id == "mi300x"
    assert chip_for(toolchain_named("triton-amd"), "mi325x").id == "mi325x"


def test_sources_need_their_problem_and_language(tmp_path):
    file = tmp_path / "k.py"
    file.write_text(HAND)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(BadInput, match="does not say what it computes"):
            read_original(str(file), ledger)
        with pytest.raises(BadInput, match="does not say its language"):
            read_original(str(file), ledger, problem="x.py")
        (tmp_path / "evidence.json").write_text("{}")
        with pytest.raises(BadCandidate, match="export it again"):
            read_original(str(tmp_path), ledger)
        with pytest.raises(BadInput, match="none"):
            read_original("none", ledger)


def original(**more):
    return Original(triton(), PROBLEM, H100, (), **more)


def verdict(candidate, status="accepted", basis="checked", **more):
    return Verdict(
        candidate=candidate.digest, problem=PROBLEM.digest, machine="m", plan="full",
        status=status, basis=basis, **more,
    )  # fmt: skip


def test_a_kernel_of_another_problem_is_refused(tmp_path):
    wrong = original(verdict=verdict(triton(), "incorrect", reason="9 is not 7"))
    entry = triton().replace(files={"kernels.py": "class ModelNew: ..."})
    wrong = replace(wrong, candidate=entry)
    with (
        Ledger(tmp_path / "l.sqlite") as ledger,
        pytest.raises(BadInput, match="does not compute relu: 9 is not 7"),
    ):
        judge_original(wrong, ledger)


def test_what_defines_no_module_is_read_and_not_judged(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        read = judge_original(original(), ledger)
    assert read.verdict is None
    assert "not judged: it defines no ModelNew" in read.notes


# -- the report -----------------------------------------------------------------------------------


def moved(best=True):
    made = triton().replace(toolchain="pallas_tpu", files={"kernels.py": "x < y  # <script>"})
    errors = (ErrorRow(distribution="given", error=1.0, honest=1.0, limit=8.0),)
    judged = verdict(made, metrics=FrozenDict(vmem_bytes=4096.0), errors=errors)
    failed = verdict(made, "build_failed", reason="over vmem_mib") if not best else judged
    return Moved(
        original(notes=("it has no genome",)), "pallas_tpu", TPU,
        (_carry.Carried("region0", "block_m=128", "rows=64", CHANGED, "limits"),),
        ((made, failed),), (made, judged) if best else None, first=made.id,
    )  # fmt: skip


def test_the_report_sets_both_side_by_side_and_shows_no_time():
    page, data = report.html(moved()), report.to_dict(moved())
    for text in ("H100", "TPU v6e", "block_m=128", "rows=64", "it has no genome"):
        assert text in page
    assert "<script" not in page
    rows = {what: (left, right) for what, left, right in report.rows(moved())}
    assert rows["time"] == ("not timed", "not timed")
    assert rows["vmem bytes"] == ("–", "4096")
    assert rows["error, of what is allowed"] == ("–", "12%")
    assert data["port"]["verdict"]["time_s"] is None
    assert "the power of Google TPU v6e (Trillium) is not known" in data["moving"]


def test_a_port_that_failed_says_why():
    data = report.to_dict(moved(best=False))
    assert "nothing was accepted" in data["headline"]
    assert any("over vmem_mib" in n for n in data["port"]["notes"])
    assert "over vmem_mib" in report.html(moved(best=False))
