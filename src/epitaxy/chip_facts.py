"""The shipped chip facts: one TOML each, every fact with its confidence and sources."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from epitaxy.chip import Chip, Fact, Level
from epitaxy.errors import BadInput, UnknownName
from epitaxy.record import FrozenDict

LOCAL = "local"
"""The name of the chip of this machine."""
_DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@cache
def load_all() -> tuple[Chip, ...]:
    """Every shipped chip, by vendor and year. Raises BadInput when a file is broken."""
    folder = resources.files("epitaxy") / "chips"
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".toml"))
    chips = [_read(name, (folder / name).read_text(encoding="utf-8")) for name in files]
    return tuple(sorted(chips, key=lambda c: (c.kind != "gpu", c.vendor, c.year, c.id)))


def find(name: str) -> Chip:
    """The chip of that id, alias or unambiguous prefix of one. Raises UnknownName, BadInput."""
    wanted = name.strip().lower().replace("-", "_")
    if wanted == LOCAL:
        return local()
    chips = load_all()
    exact = [c for c in chips if wanted in (c.id, *c.aliases)]
    if exact:
        return exact[0]
    near = [c for c in chips if wanted and any(n.startswith(wanted) for n in (c.id, *c.aliases))]
    if len(near) == 1:
        return near[0]
    if near:
        raise BadInput(f"chip {name!r} is ambiguous", f"one of {', '.join(c.id for c in near)}")
    raise UnknownName.of("chip", name, [LOCAL, *(n for c in chips for n in (c.id, *c.aliases))])


def local() -> Chip:
    """This machine's chip as far as it was measured: levels and peaks by the probe, and what
    experiments found, as facts. Raises BadEnvironment when what is stored cannot be read."""
    from epitaxy.compiler import cpu_flags
    from epitaxy.probe import explored, host, load_measured

    chip = load_measured()
    if chip is None:
        vendor, model = host.cpu_model()
        chip = Chip(
            id=f"local-{host.fingerprint()}", name=model, vendor=vendor, kind="cpu",
            cores=len(host.core_cpus()), isa=cpu_flags(),
            unknown=("levels and peaks: run `epitaxy probe`",),
        )  # fmt: skip
    return chip.replace(facts=FrozenDict({**chip.facts, **explored.facts()}))


def _read(file: str, text: str) -> Chip:
    try:
        data = tomllib.loads(text)
        facts = FrozenDict[Fact]({k: Fact(**v) for k, v in data.pop("facts").items()})
        data["sources"] = {k: str(v) for k, v in data["sources"].items()}
        return Chip(**data, facts=facts, **_derived(facts))
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise BadInput(
            f"chips/{file} cannot be read: {error}", "see any other chip's file"
        ) from None


def _derived(facts: FrozenDict[Fact]) -> dict[str, Any]:
    peaks = {
        _DTYPES.get(k[5:], k[5:]): float(f.value) * 1e12
        for k, f in facts.items()
        if k.startswith("peak_")
        and not k.startswith("peak_sparse")
        and isinstance(f.value, int | float)
    }
    levels: tuple[Level, ...] = ()
    if "mem_bw_gbs" in facts:
        size = facts.get("mem_gb")
        bytes_ = int(float(size.value) * 1e9) if size else 0
        rate = float(facts["mem_bw_gbs"].value) * 1e9
        levels = (Level(name="memory", bytes=bytes_, read_bytes_per_s=rate),)
    cores = facts.get("cores")
    return {
        "peak_flops_per_s": peaks,
        "levels": levels,
        "cores": int(cores.value) if cores else 1,
    }
