"""What NVIDIA's driver tells of the GPU in this machine, and what a confined worker needs of it.

Nothing here starts CUDA: a process that did could no longer fork workers that use it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from epitaxy.chip import Chip
from epitaxy.toolchain import Availability

CONTROL = Path("/dev/nvidiactl")
DRIVER = Path("/proc/driver/nvidia")
_MEND = "needs an NVIDIA GPU, its driver, and a PyTorch that was built for CUDA"
READ = (
    "/proc/driver/nvidia", "/proc/driver/nvidia-uvm", "/proc/devices", "/proc/modules",
    "/proc/version", "/proc/sys/vm", "/proc/filesystems",
    "/sys/bus/pci", "/sys/class/drm", "/sys/devices", "/sys/module",
    "/etc/ld.so.conf", "/usr/local/cuda", "/run/nvidia",
)  # fmt: skip
"""What libcuda looks at when it starts: who is there, and how the machine is wired."""


UVM = Path("/dev/nvidia-uvm")
"""Through it CUDA manages memory; the driver makes it when somebody first asks for it."""
BOARDS = frozenset(("nvidia", "sxm4", "sxm5", "sxm6", "hbm3", "hbm3e"))
"""What the driver's names of the boards say besides that the shipped chips are on."""


def here() -> bool:
    """Whether an NVIDIA GPU is in this machine."""
    return CONTROL.exists()


def visible() -> str:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves: a number in the order of the bus, or a name
    that begins with GPU-."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


def nodes() -> tuple[str, ...]:
    """The device files that CUDA controls."""
    found = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("nvidia-uvm*"), CONTROL]
    return tuple(sorted(str(p) for p in found if p.exists()))


@functools.cache
def chip_name() -> str:
    """The GPU as its driver tells it; "unknown" when it does not."""
    told = []
    for path in sorted((DRIVER / "gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            told.append(path.read_text(encoding="utf-8", errors="replace"))
    which = visible()
    own = told[int(which) :] if which.isdigit() else [t for t in told if which in t]
    model = re.search(r"^Model:\s*(.+)$", "".join(own[:1]), re.M)
    return model[1].strip() if model else _asked("name")


@functools.cache
def driver_version() -> str:
    """The kernel driver's version; "unknown" when it does not tell."""
    with contextlib.suppress(OSError):
        text = (DRIVER / "version").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"Module\s.*?(\d+\.\d+[.\d]*)", text)
        return found[1] if found else "unknown"
    return _asked("driver_version")


def _asked(field: str) -> str:
    """A field of the visible GPU by nvidia-smi, for containers that do not show the driver's files;
    "unknown" when it does not tell."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader", f"--id={visible()}"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        said = done.stdout.strip().splitlines()
        return said[0].strip() if done.returncode == 0 and said else "unknown"
    return "unknown"


def named(model: str, chips: Sequence[Chip]) -> Chip | None:
    """The chip that the driver calls so ("NVIDIA H100 80GB HBM3"); None when its words are nobody's
    alias, or say more: another board (PCIe, NVL), another size of memory, a slice (MIG)."""
    words = set(re.split(r"[\s_-]+", model.lower()))
    known = [c for c in chips if c.kind == "gpu" and words & {a.lower() for a in c.aliases}]
    if len(known) != 1:
        return None
    said = {*known[0].aliases, *re.split(r"[\s_-]+", known[0].name.lower())}
    return None if words - said - BOARDS else known[0]


def library_folders() -> tuple[str, ...]:
    """Where the loader looks besides: libcuda may lie there alone."""
    return tuple(p for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p.startswith("/"))


def sliced() -> bool:
    """Whether the GPU is cut into instances (MIG), each a part of the chip."""
    cut = (DRIVER / "capabilities").glob("gpu*/mig/gi*")
    return visible().startswith("MIG-") or any(cut)


def present(chips: Sequence[Chip]) -> Availability:
    """Whether CUDA can be used here, on a chip that is known. Says why not."""
    if not here():
        return Availability(ok=False, detail="no NVIDIA GPU here", mend=_MEND)
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return Availability(
            ok=False,
            detail="CUDA_VISIBLE_DEVICES hides every GPU",
            mend="unset CUDA_VISIBLE_DEVICES",
        )
    from epitaxy.machines._fingerprint import version_of

    build = cuda_build()
    if not build:
        torch = version_of("torch")
        return Availability(ok=False, detail=f"PyTorch {torch} is for the CPU alone", mend=_MEND)
    if sliced():
        return Availability(
            ok=False,
            detail="the GPU is cut into instances (MIG), which are not the chip",
            mend="ask for a whole GPU",
        )
    if not UVM.exists():
        return Availability(
            ok=False,
            detail=f"{UVM} is missing, which a confined worker cannot have made",
            mend="as root: nvidia-modprobe -c 0 -u, or start any program that uses CUDA once",
        )
    if named(chip_name(), chips) is None:
        return Availability(
            ok=False,
            detail=f"{chip_name()} is none of the chips that `epitaxy chips` lists",
            mend="add a TOML for it to src/epitaxy/chips, with its alias",
        )
    return Availability(ok=True, detail=f"{chip_name()}, driver {driver_version()}, CUDA {build}")


@functools.cache
def cuda_build() -> str:
    """The CUDA that PyTorch was built for; "" for none. Read without importing PyTorch."""
    import importlib.util

    spec = importlib.util.find_spec("torch")
    for place in (spec and spec.submodule_search_locations) or ():
        with contextlib.suppress(OSError):
            text = (Path(place) / "version.py").read_text(encoding="utf-8")
            found = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.M)
            return found[1] if found else ""
    return ""
