"""The probe's reading of curves, listings and stored chips, without a compiler."""

import io
import math
import tomllib
from types import SimpleNamespace

import pytest

from epitaxy.chip import Chip, Level
from epitaxy.commands.run import FIRST_PROBE_S, measure_chip
from epitaxy.errors import BadEnvironment
from epitaxy.probe import load_measured, measured_chip, store
from epitaxy.probe.disassembly import Expected, expectations, fault, functions, inner_loops
from epitaxy.probe.levels import boundaries, plateaus, rate
from epitaxy.probe.programs import merge
from epitaxy.probe.summary import quantiles
from epitaxy.progress import Display

KIB = 1024.0
SIZES = [4 * KIB * 2 ** (i / 2) for i in range(34)]


def latency(size, ends=(32 * KIB, 512 * KIB, 8192 * KIB), values=(1e-9, 4e-9, 16e-9, 130e-9)):
    return next((v for e, v in zip(ends, values, strict=False) if size <= e), values[-1])


def wobble(size):
    return 1 + 0.08 * math.sin(size)


def test_plateaus_are_the_levels():
    found = plateaus([(s, latency(s) * wobble(s)) for s in SIZES])
    assert len(found) == 4
    assert [p.latency_s for p in found] == pytest.approx([1e-9, 4e-9, 16e-9, 130e-9], rel=0.1)
    assert [p.capacity for p in found[:-1]] == pytest.approx(
        [32 * KIB, 512 * KIB, 8192 * KIB], rel=0.01
    )
    assert found[-1].capacity == math.inf


def test_an_outlier_is_no_level():
    curve = [(s, latency(s)) for s in SIZES]
    curve[10] = (curve[10][0], 500e-9)
    assert len(plateaus(curve)) == 4


def test_a_transition_is_no_level():
    values = {256 * KIB: 7e-9, 512 * KIB: 11e-9}
    curve = [(s, values.get(s, latency(s))) for s in SIZES]
    assert len(plateaus(curve)) == 4


def test_a_machine_without_caches_has_one_level():
    assert len(plateaus([(s, 1e-7 * wobble(s)) for s in SIZES])) == 1
    assert boundaries([(s, 1e10) for s in SIZES], [], 4) == []


@pytest.mark.parametrize(("cores", "shared"), [(1, True), (4, True), (4, False), (8, True)])
def test_all_cores_see_private_caches_added_and_shared_ones_not(cores, shared):
    ends = (32 * KIB * cores, 512 * KIB * cores, 8192 * KIB * (1 if shared else cores))
    sizes = [8 * KIB * cores * 2 ** (i / 2) for i in range(34)]
    read = [(s, latency(s, ends, (600e9, 350e9, 150e9, 50e9)) * wobble(s)) for s in sizes]
    found = boundaries(read, [32 * KIB, 512 * KIB, 8192 * KIB], cores)
    for got, true in zip(found, ends, strict=True):
        assert 0.7 * true <= got <= 1.01 * true


def test_a_shared_cache_no_larger_than_the_private_ones_adds_nothing():
    ends = (512 * KIB, 8192 * KIB, 8192 * KIB)
    sizes = [128 * KIB * 2 ** (i / 2) for i in range(26)]
    read = [(s, latency(s, ends, (600e9, 350e9, 150e9, 50e9)) * wobble(s)) for s in sizes]
    assert boundaries(read, [32 * KIB, 512 * KIB, 8192 * KIB], 16) == pytest.approx(ends, rel=0.01)


def test_a_rate_is_taken_inside_its_level():
    curve = [(100.0, 9.0), (200.0, 5.0), (400.0, 5.2), (800.0, 3.0)]
    assert rate(curve, 100, 600) == pytest.approx(5.1)
    assert rate([], 1, 2) == 0.0


def test_quantiles():
    assert quantiles([3.0, 1.0, 2.0]) == pytest.approx((1.2, 2.0, 2.8))


LISTING = """
0000000000001000 <fma_float32_256>:
    1000:\tvbroadcastss %xmm0,%ymm1
    1008:\tvfmadd132ps %ymm0,%ymm1,%ymm2
    100d:\tvfmadd132ps %ymm0,%ymm1,%ymm3
    1012:\tdec    %rdi
    1015:\tjne    1008 <fma_float32_256+0x8>
    1017:\tret
"""


def loops(listing):
    return inner_loops(functions(listing)["fma_float32_256"])


def test_the_right_loop_is_confirmed():
    wanted = expectations("x86_64", 2)["fma_float32_256"]
    assert len(loops(LISTING)) == 1
    assert fault(loops(LISTING), wanted) == ""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("vfmadd132ps %ymm0,%ymm1,%ymm3", "vaddps %ymm0,%ymm1,%ymm3", "only 1 of 2"),
        ("%ymm", "%xmm", "only 0 of 2"),
        ("dec    %rdi", "vmovaps %ymm3,0x20(%rsp)", "spills"),
        ("dec    %rdi", "vmovaps (%rax),%ymm3", "touches memory"),
        ("jne    1008", "jne    1017", "no loop"),
    ],
)
def test_a_wrong_loop_is_noticed(old, new, why):
    wanted = expectations("x86_64", 2)["fma_float32_256"]
    assert why in fault(loops(LISTING.replace(old, new)), wanted)


def test_separate_multiplies_and_adds_count_only_where_nothing_is_fused():
    apart = LISTING.replace("vfmadd132ps %ymm0,%ymm1,%ymm2", "vmulps %ymm0,%ymm1,%ymm2")
    apart = apart.replace("vfmadd132ps %ymm0,%ymm1,%ymm3", "vaddps %ymm0,%ymm1,%ymm3")
    assert fault(loops(apart), expectations("x86_64", 1)["fma_float32_256"]) != ""
    assert fault(loops(apart), expectations("x86_64", 1, False)["fma_float32_256"]) == ""


def test_samples_of_two_runs_are_one():
    lines = [{"what": "launch", "values": [1]}, {"what": "x", "values": [2]}]
    again = [{"what": "launch", "values": [3]}]
    assert merge(lines + again) == [
        {"what": "launch", "values": [1, 3]},
        {"what": "x", "values": [2]},
    ]


def test_only_the_innermost_loop_counts():
    nested = LISTING.replace("1017:\tret", "1017:\tjne    1000 <fma_float32_256>")
    assert [len(x) for x in loops(nested)] == [4]


def test_an_aarch64_loop_is_read_too():
    listing = """
0000000000000000 <fma_float32_128>:
   0:\tfmla\tv0.4s, v1.4s, v2.4s
   4:\tsubs\tx0, x0, #0x1
   8:\tb.ne\t0 <fma_float32_128>  // b.any
"""
    body = functions(listing)["fma_float32_128"]
    assert fault(inner_loops(body), (Expected(r"fmla\s+v\d+\.4s", 1),)) == ""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def some_chip():
    return Chip(
        id="x",
        name='odd "name" \\ é',
        vendor="v",
        kind="cpu",
        measured=True,
        peak_flops_per_s={"float32": 1e22, "float64": 3.5},
        levels=(
            Level(name="L1", bytes=1, read_bytes_per_s=2.0),
            Level(name="M", bytes=0, read_bytes_per_s=1e9),
        ),
        curves={"read core": ((1.0, 2e9), (2.0, 1e-9))},
        spreads={"float32 256 all": (1.0, 2.0)},
        notes=("one", "two"),
    )


def test_a_stored_chip_is_read_back_whole(home):
    assert load_measured() is None
    file = store.save(some_chip())
    assert file.parent == home / "chips"
    assert load_measured() == some_chip()
    assert measured_chip() == some_chip()


def test_a_chip_of_another_format_is_measured_anew(home):
    file = store.save(some_chip())
    file.write_text(file.read_text().replace(f"format = {store.FORMAT}", "format = 0"))
    assert load_measured() is None


def test_another_machines_chip_is_not_taken(home, monkeypatch):
    store.save(some_chip())
    monkeypatch.setattr(store.host, "cpu_model", lambda: ("other", "chip"))
    assert load_measured() is None


def test_a_spoilt_file_names_its_mend(home):
    store.save(some_chip()).write_text("format = [")
    with pytest.raises(BadEnvironment, match="cannot read") as caught:
        load_measured()
    assert "epitaxy probe" in caught.value.mend


def test_toml_is_what_the_standard_library_reads():
    data = {
        "a b": 1,
        "t": {"x": [1.5, 2], "y": {"z": True}},
        "l": [{"k": "v\n"}, {"k": ""}],
        "e": [],
    }
    assert tomllib.loads(store.to_toml(data)) == data


def test_a_machine_is_measured_at_its_first_use_alone(tmp_path, monkeypatch):
    measured = []

    def probe(progress, budget_s):
        measured.append(budget_s)
        store.save(Chip(id="c", name="c", vendor="v", kind="cpu"))

    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path))
    monkeypatch.setattr("epitaxy.probe.probe", probe)
    said = io.StringIO()
    with Display("p", said) as display:
        for probed in (False, True, True):
            measure_chip(SimpleNamespace(probed=probed), display)
    assert measured == [FIRST_PROBE_S]
    assert "first use of this machine" in said.getvalue()
