"""Run confined, as a program: build kernels for a GPU that need not be here, and their stand-in.

    python -m epitaxy.toolchains._device_build JOB.json

The job holds the vendor's commands, those that build the stand-in, and the inputs' shapes. The
bundle's ModelNew is called once on tensors of zeros while every launch is noted instead of made:
`launches.json` appears beside the job, with what the commands said and made.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from epitaxy.toolchains._builder import Refused, build, called, opened

MOST_LINES, STAND_IN = 3, "stand-in"


def main(path: str) -> int:
    """Build; what is refused goes to stdout as one line beginning with `error:`."""
    return build(path, _build)


def _build(job: dict[str, Any]) -> None:
    model, module = opened()
    sources = module["_epitaxy_sources"]
    unit = _written(sources, job["suffix"])
    if not job["small"]:
        for one in job["device"]:
            said = _run([unit if w == "{unit}" else w for w in one["run"]])
            Path(one["log"]).write_text(said, encoding="utf-8")
    _shim(job["shim"], sources, unit)
    Path("launches.json").write_text(json.dumps(_noted(model, module, job)), encoding="utf-8")


def _written(sources: dict[str, str], suffix: str) -> str:
    """The sources as files; the one that is compiled."""
    for name, text in sources.items():
        Path(name).write_text(text, encoding="utf-8", newline="")
    return next(name for name in sources if name.endswith(suffix))


def _run(command: list[str]) -> str:
    """What a command says. Raises Refused with its first errors when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    if done.returncode:
        raise Refused(_telling(said) or f"{Path(command[0]).name} ended with {done.returncode}")
    return said


def _telling(said: str) -> str:
    """The lines that name an error, without the prefix that our own line has."""
    lines = [x.strip() for x in said.splitlines() if re.search(r"\berror\b|undefined", x)]
    lines = [re.sub(r"^(?:fatal )?error\s*:\s*", "", x) for x in lines]
    return " | ".join(dict.fromkeys(lines[:MOST_LINES]))[:900]


_ALIGNED = r"(?:(?:alignas|__align__)\s*\([^()]*\)\s*)?"
DYNAMIC = re.compile(
    rf"\bextern\s+__shared__\s+{_ALIGNED}([\w:]+(?:\s+[\w:]+)*?)\s+(\w+)\s*\[\s*\]\s*;"
)
STATIC = re.compile(rf"\b(?:__shared__|__local)\s+{_ALIGNED}([^;(){{}}=]*);")
LITERAL = re.compile(r"\(\s*(?:float|double|int|uint|half)(?:2|3|4|8|16)\s*\)\s*\(")
_DECLARED = re.compile(r"^(.*?)\b([A-Za-z_]\w*)\s*((?:\[[^\[\]]*\]\s*)*)$", re.S)


def adapted(name: str, text: str) -> str:
    """A source for the stand-in: where shared memory lies is known when kernels run.

    Raises Refused for what means something else in C++ than in OpenCL C.
    """
    if name.endswith(".cl") and LITERAL.search(text):
        raise Refused(f"{name}: the stand-in takes no vector literals: set x, y, z and w apart")
    memory = r"static \1*& \2 = reinterpret_cast<\1*&>(epitaxy::state.dynamic_shared);"
    text = STATIC.sub(_shared, DYNAMIC.sub(memory, text))
    return f'#line 1 "{name}"\n{text}'


def _shared(match: re.Match[str]) -> str:
    """`__shared__ float a[N], b;` as references to what the runtime gives."""
    first, *others = _parts(match[1])
    found = _DECLARED.match(first.strip())
    if found is None or not found[1].strip():
        return match[0]
    kind = found[1].strip()
    if match[0].startswith("__local") and "*" in kind:
        return match[0]  # a pointer of one's own to memory of all
    names = [(found[2], found[3])]
    for other in others:
        more = _DECLARED.match(other.strip())
        if more is None or more[1].strip():
            return match[0]
        names.append((more[2], more[3]))
    made = [f'static auto& {n} = epitaxy::shared_as<{kind}{d}>("{n}");' for n, d in names]
    return " ".join(made).replace("\n", " ") + "\n" * match[0].count("\n")


def _parts(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "<([{") - (character in ">)]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _shim(commands: list[list[str]], sources: dict[str, str], unit: str) -> None:
    """The library of the stand-in, from the sources as they are for it."""
    runtime, one, link = commands
    _run(runtime)
    Path(STAND_IN).mkdir()
    for name, text in sources.items():
        Path(STAND_IN, name).write_text(adapted(name, text), encoding="utf-8", newline="")
    _run([f"{STAND_IN}/{unit}" if w == "{unit}" else w for w in one])
    _run(link)
    for name in ("runtime.o", "kernel.o"):
        Path(name).unlink()
    shutil.rmtree(STAND_IN)


def _noted(model: Any, module: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    """Every distinct launch of one call, and how often it is made."""
    noted: list[Any] = []
    module["_epitaxy_noted"] = noted
    called(model, module, job)
    if not noted:
        raise Refused("the candidate launches no kernel")
    return [
        {
            "kernel": one[0], "grid": one[1], "block": one[2], "shared_bytes": one[3],
            "count": noted.count(one),
        }
        for one in dict.fromkeys(noted)
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
