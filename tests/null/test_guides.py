"""Guides: complete for every chip of their family, short, sourced, nothing from memory."""

import re

import pytest

from epitaxy import guides
from epitaxy.chip import Chip, Level
from epitaxy.chip_facts import find, load_all
from epitaxy.cli import DONE, UNUSABLE, main
from epitaxy.errors import BadInput, UnknownName
from epitaxy.plugin import plugins
from epitaxy.probe import explored
from epitaxy.probe.explored import Explored
from epitaxy.probe.store import save

HERE = Chip(
    id="local-1", name="A measured CPU", vendor="AMD", kind="cpu", measured=True, cores=4,
    vector_bytes=32, vector_registers=16, isa=("x86_64", "avx", "avx2", "fma"),
    peak_flops_per_s={"float32": 4e11}, peak_flops_per_s_core={"float32": 1e11},
    levels=(
        Level(name="L2", bytes=1 << 20, read_bytes_per_s=3e11, latency_s=4e-9),
        Level(name="DRAM", bytes=0, read_bytes_per_s=4.2e10, read_bytes_per_s_core=2e10),
    ),
    curves={
        "write": ((4096.0, 2e11), (2.0**28, 2e10)), "stream": ((4096.0, 1e11), (2.0**28, 3e10)),
    },
    measured_on="2026-11-21T06:47:39+00:00", compiler="gcc 12.2.0",
)  # fmt: skip
MEASURED = {
    "cpp_x86_avx2": HERE,
    "cpp_x86_avx512": HERE.replace(isa=(*HERE.isa, "avx512f"), vector_bytes=64),
    "cpp_x86_amx": HERE.replace(isa=(*HERE.isa, "avx512f", "amx_tile"), vector_bytes=64),
    "cpp_arm_neon": HERE.replace(isa=("aarch64", "asimd", "fphp"), vector_bytes=16),
    "cpp_arm_sve": HERE.replace(isa=("aarch64", "asimd", "sve", "bf16"), vector_bytes=16),
}


def cases():
    """Every guide with every chip of its family, a measured one where there is one."""
    for pattern in guides.patterns():
        here = [MEASURED[pattern.name]] if pattern.name in MEASURED else []
        for chip in (*(find(c) for c in pattern.chips), *here):
            yield pytest.param(pattern, chip, id=f"{pattern.name}-{chip.id}")


@pytest.mark.parametrize(("pattern", "chip"), list(cases()))
def test_a_guide_is_whole_short_and_sourced_for_each_chip_of_its_family(pattern, chip):
    guide = guides.read(pattern.name, chip)
    assert not re.search(r"\{\{|\}\}|\{%|%\}|\bNone\b| nan[ ,;]", guide.text)
    assert guide.tokens <= guides.MOST_TOKENS
    assert chip.name in guide.text
    known = {key for key in guide.sources if f"{key}: " in guide.text.partition("## Sources")[2]}
    assert known == set(guide.sources)
    for point in guides.points(guide.text):
        keys = set(point[point.rindex("[") + 1 : -1].split())
        assert keys, point
        assert keys <= known, point


def test_every_guide_is_of_known_chips_and_toolchains_and_every_family_of_measured_chips_is_tried():
    for pattern in guides.patterns():
        assert set(pattern.toolchains) <= set(plugins("toolchains").names()), pattern.name
        assert all(find(c).id == c for c in pattern.chips)
        assert pattern.chips or pattern.isa
        headings = re.findall(r"^## (.*)$", pattern.body, re.MULTILINE)
        assert headings == [h for h in guides.HEADINGS if h in headings]
        assert bool(pattern.isa) == (pattern.name in MEASURED)


def test_nothing_from_memory_and_every_source_is_used():
    for pattern in guides.patterns():
        for key, text in pattern.sources.items():
            assert text.strip(), key
            assert "memory, verify" not in text
    head = '+++\ntitle = "A"\ntoolchains = []\nchips = []\n[sources]\nS = "a page"\n+++\n'
    with pytest.raises(BadInput, match="no known source"):
        guides.parse("a", {"a": f"{head}- A claim without a source."})
    with pytest.raises(BadInput, match=r"no known source \['C'\]"):
        guides.parse("a", {"a": f"{head}- A claim. [S]\n- Another\n  one. [C]"})
    with pytest.raises(BadInput, match="nothing rests on"):
        guides.parse("a", {"a": f"{head}- A number. [chip]"})
    assert guides.parse("a", {"a": f"{head}- A claim\n  of two lines. [S chip]"}).title == "A"
    parts = {
        "a": head.replace("[sources]", 'parts = ["_b"]\n[sources]') + "## Own\n- One. [S]",
        "_b": "+++\n+++\n## Traps\n- Two. [S]",
    }
    assert "## Own" in guides.parse("a", parts).body


def test_numbers_are_this_machines_and_unknown_ones_are_said():
    guide = guides.read(chip=HERE)
    assert guide.name == "cpp_x86_avx2"
    assert guide.measured
    assert "measured here on 2026-11-21" in guide.text
    assert "reads 42 GB/s" in guide.text
    assert "0.5x at 4 KiB, 1.5x at 256 MiB" in guide.text
    assert "bfloat16 dot products: unknown" in guide.text
    assert "peak bfloat16" in guide.unknown
    half = guides.read(chip=HERE.replace(peak_flops_per_s={"float32": 2e11}))
    assert "float32 200 Gop/s" in half.text
    bare = guides.read("cpp_x86_avx2", Chip(
        id="local-2", name="Bare", vendor="x", kind="cpu", measured=True, isa=("avx2", "fma")
    ))  # fmt: skip
    assert {"memory levels", "vector width"} <= set(bare.unknown)


def found_here(number, verdict="confirmed", **changes):
    return Explored(
        name=f"experiment-{number:02}", hypothesis=f"Claim number {number} of this machine.",
        verdict=verdict, effect="1.4x (1.3–1.5)", measured_on="2026-11-21T10:00:00+00:00",
        conditions={"compiler": "gcc 12.2.0 (/usr/bin/g++)", "kernel": "6.18"}, **changes,
    )  # fmt: skip


def test_what_experiments_found_here_is_told_with_its_versions(monkeypatch, tmp_path):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path))
    save(HERE)
    assert "experiments" not in guides.read().text
    explored.save(found_here(1, found="x = 8"))
    explored.save(found_here(2, "refuted"))
    explored.save(found_here(3, "inconclusive"))
    guide = guides.read()
    assert "- confirmed: Claim number 1 of this machine (1.4x (1.3–1.5); x = 8;" in guide.text
    assert "; gcc 12.2.0, kernel 6.18, 2026-11-21). [explore]" in guide.text
    assert "refuted: Claim number 2" in guide.text
    assert "number 3" not in guide.text
    assert "explore" in guide.sources
    elsewhere = HERE.replace(id="local-of-another-machine")
    assert "Claim" not in guides.read(chip=elsewhere).text
    assert "Claim" not in guides.read("epyc_9755").text


def test_many_findings_do_not_burst_the_guide(monkeypatch, tmp_path):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path))
    save(HERE)
    for number in range(30):
        explored.save(found_here(number, "refuted" if number < 15 else "confirmed"))
    guide = guides.read()
    assert guide.tokens <= guides.MOST_TOKENS
    told = guide.text.count(": Claim number")
    assert 3 < told < 30
    assert f"- {30 - told} more: `epitaxy explore`. [explore]" in guide.text
    assert guide.text.count("- refuted") <= max(0, told - 15)


def test_found_by_chip_alias_toolchain_or_name(monkeypatch, tmp_path):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path))
    assert guides.read("h100").name == "triton_hopper"
    assert guides.read("H200", toolchain="triton_nvidia").chip == "h200_sxm"
    assert guides.read("h100", toolchain="cuda").name == "cuda_hopper"
    assert guides.read("h100").others == ("cuda_hopper",)
    assert guides.read("mi300x").name == "triton_cdna3"
    assert guides.read("mi300x", toolchain="hip").name == "hip_cdna3"
    with pytest.raises(BadInput) as several:
        guides.read("cuda")
    assert "cuda_ampere, cuda_blackwell, cuda_hopper" in several.value.mend
    assert guides.read("triton-hopper").chip == "h100_sxm"
    with pytest.raises(BadInput, match="never measured"):
        guides.read()
    save(HERE)
    for name in ("", "local", "cpp", "cpp_x86_avx2"):
        assert guides.read(name).chip == HERE.id


@pytest.mark.parametrize(
    ("arguments", "error", "mend"),
    [
        (("h10O",), UnknownName, "did you mean 'h100'"),
        (("triton_hoper",), UnknownName, "did you mean 'triton_hopper'"),
        (("groq_lpu1",), BadInput, "there are: cpp_arm"),
        (("h100", None, "cpp"), BadInput, "there are: cpp_arm"),
        (("triton_hopper", find("mi300x")), BadInput, "it is for h100_sxm"),
        (("cpp_x86_avx512", HERE), BadInput, "it is for"),
    ],
)
def test_an_unknown_name_gives_the_mend(arguments, error, mend):
    with pytest.raises(error) as raised:
        guides.read(*arguments)
    assert mend in raised.value.mend


def test_chips_without_a_guide_are_few_and_known():
    without = {c.id for c in load_all() if not guides.for_chip(c)}
    no_toolchain = {
        *("cerebras_wse3", "gaudi3", "groq3_lpu", "groq_lpu1", "matx_one", "mtia_v2"),
        *("mi455x", "rubin_sxm", "tt_blackhole_p150", "tt_wormhole_n150"),
    }
    assert without == no_toolchain


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_a_measured_chip_gets_the_guide_of_its_widest_vectors(name):
    assert [p.name for p in guides.for_chip(MEASURED[name])] == [name]
    assert guides.read(chip=MEASURED[name], toolchain="cpp").name == name


def test_the_command_prints_and_lists(capsys):
    assert main(["guide", "h100"]) == DONE
    text = capsys.readouterr().out
    assert text.startswith("# Triton on NVIDIA Hopper")
    assert "3350 GB/s" in text
    assert main(["guide", "--list"]) == DONE
    assert "cpp_x86_avx512" in capsys.readouterr().out
    assert main(["guide", "h100", "--json"]) == DONE
    assert '"tokens"' in capsys.readouterr().out
    assert main(["guide", "no such chip"]) == UNUSABLE
    assert "known: " in capsys.readouterr().err
