"""Pallas for Google's TPUs: bundles by the real libtpu, for a chip that need not be here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epitaxy.chip import Chip, find_chip
from epitaxy.errors import BadInput
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability, StandIn
from epitaxy.toolchains._absent import AbsentToolchain

MEND = "pip install 'epitaxy[tpu]'"
TOPOLOGY = {
    "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_ID": "0",
}  # fmt: skip
"""With these libtpu compiles for a described topology and looks for no chip."""


class PallasTpu(AbsentToolchain):
    """The toolchain plugin."""

    name = "pallas_tpu"
    language = "pallas"
    builder = "epitaxy.toolchains._pallas_build"
    prelude = Path(__file__).parent / "pallas_prelude.py.txt"
    needs = "Needs PyTorch and JAX, and runs on the TPU that it was grown for."

    def available(self) -> Availability:
        """Whether JAX is installed, and libtpu's compiler with it."""
        if importlib.util.find_spec("jax") is None:
            return Availability(ok=False, detail="no JAX", mend=MEND)
        jax = f"JAX {importlib.metadata.version('jax')}"
        how = "checked by Pallas' interpreter"
        if not _compiler():
            return Availability(ok=True, detail=f"{jax} without libtpu: not compiled; {how}")
        version = importlib.metadata.version("libtpu")
        return Availability(ok=True, detail=f"{jax}, libtpu {version}; {how}")

    def targets(self, chip: Chip) -> bool:
        """Whether it builds for `chip`: a TPU whose topology is known."""
        return chip.kind == "tpu" and "target" in chip.facts

    def stand_in(self) -> StandIn:
        """Pallas' own interpreter on this machine's CPU."""
        return StandIn(
            name="Pallas' interpreter",
            packages=("jax", "jaxlib"),
            preload=("jax", "jax.experimental.pallas", "jax.experimental.pallas.tpu"),
            environment=FrozenDict(EPITAXY_PALLAS_INTERPRET="1", JAX_PLATFORMS="cpu"),
            compiled=_compiler(),
        )

    def default_chip(self) -> Chip:
        """A TPU v6e."""
        return find_chip("tpu_v6e")

    def packages(self) -> tuple[str, ...]:
        """JAX, and libtpu where it is installed."""
        return ("jax", "jaxlib", "libtpu") if _compiler() else ("jax", "jaxlib")

    def job(self, chip: Chip) -> dict[str, Any]:
        """The topology to compile for, and the limits that kernels must keep."""
        missing = [n for n in ("target", "vmem_mib", "lanes", "sublanes") if n not in chip.facts]
        if missing:
            raise BadInput(
                f"the file of {chip.name} does not know {missing[0]}",
                "add it to its TOML, with a source",
            )
        return {
            "chip": chip.name,
            "target": str(chip.facts["target"].value),
            "vmem_bytes": int(chip.facts["vmem_mib"].value) << 20,
            "compile": _compiler(),
        }

    def environment(self, made: Path) -> Mapping[str, str]:
        """libtpu's: no chip is looked for, and the final bundles are left as text."""
        dump = f"--xla_jf_dump_to={made / 'dump'} --xla_jf_dump_llo_text=true"
        return {**TOPOLOGY, "LIBTPU_INIT_ARGS": dump}


def _compiler() -> bool:
    return importlib.util.find_spec("libtpu") is not None


def plugin() -> PallasTpu:
    """The `pallas_tpu` toolchain."""
    return PallasTpu()
