"""A real probe of this machine, as short as allowed, and what happens when it cannot run."""

import platform
import stat

import pytest

from epitaxy.compiler import Compiler, cpu_flags, find_compiler
from epitaxy.errors import BadEnvironment, BadInput, MachineFault, NoCompiler
from epitaxy.probe import LEAST_S, host, load_measured, measured_chip, probe, programs
from epitaxy.problem import Work
from epitaxy.roofline import floor


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    heard = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPITAXY_HOME", str(tmp_path_factory.mktemp("home")))
        chip = probe(
            progress=lambda fraction, text: heard.append((fraction, text)), budget_s=LEAST_S
        )
        assert load_measured() == chip
        assert measured_chip() == chip
    return chip, heard


def test_every_quantity_is_measured(measured):
    chip, _ = measured
    assert chip.measured
    assert chip.measured_on
    assert {"float32", "float64"} <= set(chip.peak_flops_per_s)
    assert all(v > 1e8 for v in chip.peak_flops_per_s.values())
    for name in ("read", "write", "stream", "copy", "copy_stream"):
        whom = name if chip.cores > 1 else f"{name} core"
        assert len(chip.curves[whom]) > 8
        assert len(chip.curves[f"{name} core"]) > 8
    assert min(chip.barrier_s, chip.sync_s, chip.wake_s, chip.page_fault_s) > 0
    for low, high in chip.spreads.values():
        assert 0 < low <= high


def test_levels_run_from_small_and_fast_to_large_and_slow(measured):
    chip, _ = measured
    sizes = [level.bytes for level in chip.levels]
    waits = [level.latency_s for level in chip.levels]
    assert sizes == sorted(sizes)
    assert waits == sorted(waits)
    assert chip.levels[-1].name == "DRAM"
    assert all(level.read_bytes_per_s > 0 for level in chip.levels)


def test_what_the_cpu_lacks_is_said(measured):
    chip, _ = measured
    for dtype in ("bfloat16", "int8"):
        assert (dtype in chip.peak_flops_per_s) != any(dtype in note for note in chip.notes)
    assert any("disassembly" in note for note in chip.notes)


def test_progress_rises_to_one(measured):
    _, heard = measured
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len({text for _, text in heard}) >= 5


def test_the_floor_uses_the_measured_chip(measured):
    chip, _ = measured
    limit = floor(Work(bytes_read=256e6, bytes_written=256e6), chip, 512_000_000)
    assert limit.measured
    assert limit.limit == "memory: DRAM"
    assert limit.time_s > floor(Work(bytes_read=256e6), chip, 512_000_000).time_s > 0


def test_every_loop_is_the_one_that_was_meant(tmp_path):
    wrong, notes = programs.check_loops(
        programs.build(find_compiler(), tmp_path), fused="fma" in cpu_flags()
    )
    assert wrong == {}
    assert len(notes) == 1


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 instruction sets")
@pytest.mark.parametrize("isa", ["x86-64", "skylake-avx512", "sapphirerapids"])
def test_the_programs_build_for_other_chips(tmp_path, monkeypatch, isa):
    flags = [f if f != "-march=native" else f"-march={isa}" for f in programs.FLAGS]
    monkeypatch.setattr(programs, "FLAGS", flags)
    try:
        binaries = programs.build(find_compiler(), tmp_path)
    except MachineFault as fault:
        if "march" in fault.message:
            pytest.skip(f"this compiler does not know {isa}")
        raise
    wrong, _ = programs.check_loops(binaries, fused=isa != "x86-64")
    assert wrong == {}


def plan():
    return programs.Plan(budget_s=0.1, threads=1, per_octave=1, most_bytes=1 << 20)


def test_a_crash_is_the_machines_fault(tmp_path):
    script = tmp_path / "flops"
    script.write_text("#!/bin/sh\necho oh no >&2\nexit 3\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(MachineFault, match="oh no"):
        programs.run(script, plan(), lambda fraction: None)


def test_a_compiler_that_fails_is_named(tmp_path):
    compiler = Compiler(path="/bin/false", kind="gcc", version="12.2.0")
    with pytest.raises(MachineFault, match="cannot build the probe"):
        programs.build(compiler, tmp_path)


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NoCompiler):
        probe()


def test_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "file"))
    with pytest.raises(BadEnvironment, match="cannot write"):
        probe()


def test_a_budget_too_small():
    with pytest.raises(BadInput, match="too short"):
        probe(budget_s=0)


def test_the_fingerprint_is_stable():
    assert host.fingerprint() == host.fingerprint()
    assert len(host.core_cpus()) >= 1
