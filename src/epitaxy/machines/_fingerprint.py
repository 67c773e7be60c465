"""What makes two runs comparable: hardware, system and library versions."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform

from epitaxy.compiler import find_compiler
from epitaxy.errors import NoCompiler
from epitaxy.machines._zygote import TUNABLES
from epitaxy.probe.host import cpu_field
from epitaxy.record import FrozenDict


@functools.cache
def fingerprint(realtime: bool) -> FrozenDict[str]:
    """Everything by name; "none" or "unknown" where there is nothing."""
    try:
        compiler = str(find_compiler())
    except NoCompiler:
        compiler = "none"
    return FrozenDict(
        cpu=cpu_field("model name") or platform.processor() or "unknown",
        architecture=platform.machine(),
        cores=str(os.cpu_count() or 1),
        kernel=platform.release(),
        libc=" ".join(platform.libc_ver()) or "unknown",
        python=platform.python_version(),
        torch=version_of("torch"),
        compiler=compiler,
        tunables=TUNABLES,
        huge_pages=_huge_pages(),
        realtime="on" if realtime else "off",
    )


def version_of(package: str) -> str:
    """An installed package's version; "none" where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _huge_pages() -> str:
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
            return file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return "unknown"
