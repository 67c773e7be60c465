"""Export a candidate as a folder that stands alone, and load such a folder again."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadEnvironment, BadInput, EpitaxyError
from epitaxy.metric import Profiled
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.product.compose import (
    SOURCE_SUFFIXES,
    bundle,
    kernel_name,
    kernel_sources,
    original,
    training_matters,
)
from epitaxy.product.headed import headed
from epitaxy.record import digest_text
from epitaxy.toolchain import Build
from epitaxy.verdict import BASES, Verdict

TEMPLATE = Path(__file__).parent / "readme.md.j2"
ORIGINAL = Path(__file__).parent / "original.md"
_OWN = re.compile(r"kernel\.cpp|kernel-[0-9a-f]{12}\.(so|json)")
"""Files of an earlier export that the next one may not have; others are the user's."""
RETURNED_BYTES = 32 << 20
"""Memory of this size and more glibc takes from the system and gives back to it: the largest value
that its moving threshold reaches, mallopt(3)."""
KEPT_MEMORY = (
    "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296:"
    "glibc.malloc.hugetlb=1"
)
"""What keeps it with the process (a relu of 33 MiB 0.64 ms instead of 4.6, four cores, Zen 5)."""


def export(
    candidate: Candidate,
    verdict: Verdict | None,
    problem: Problem,
    folder: str | Path,
    build: Build | None = None,
    profiled: Profiled | None = None,
) -> Path:
    """Write `model_new.py`, the sources, the library, `evidence.json` and `README.md`.

    `evidence.json` holds problem, candidate, verdict and, where one was taken, the profile.
    `build` is the toolchain's; without it the library is left out and built on first use. All
    files are made elsewhere and moved in when complete. Returns the path of `model_new.py`.
    Raises BadEnvironment when `folder` cannot be written.
    """
    texts = {
        **_sources(candidate, verdict, problem, build),
        "evidence.json": _evidence(candidate, verdict, problem, build, profiled),
        "README.md": _readme(candidate, verdict, problem, build),
    }
    return _write(texts, _libraries(candidate, build), Path(folder))


def _compiled(candidate: Candidate) -> bool:
    """Whether its kernels are a library beside the module, not part of its text."""
    return any(name.endswith(".cpp") for name in candidate.files)


def _sources(
    candidate: Candidate, verdict: Verdict | None, problem: Problem, build: Build | None
) -> dict[str, str]:
    """`model_new.py` and the sources that it was made of."""
    if _compiled(candidate):
        sources = kernel_sources(candidate)
        told = {n: headed(text, candidate, verdict, problem) for n, text in sources.items()}
        return {"model_new.py": bundle(candidate, problem), **told}
    if build is None or not build.ok:
        raise BadInput(f"{candidate.id} is not built", "judge it again where its toolchain works")
    text = Path(build.folder, "model_new.py").read_text(encoding="utf-8")
    return {"model_new.py": text, **{n: t for n, t in candidate.files.items() if "/" not in n}}


def export_original(problem: Problem, reason: str, folder: str | Path) -> Path:
    """Write a `model_new.py` whose ModelNew is the reference, for want of something faster.

    Returns its path. Raises BadEnvironment when `folder` cannot be written.
    """
    facts = {"problem": problem.to_dict(), "left": reason, "digests": {"problem": problem.digest}}
    readme = ORIGINAL.read_text(encoding="utf-8")
    texts = {
        "model_new.py": original(problem, reason),
        "evidence.json": json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n",
        "README.md": readme.format(name=problem.name, entry=problem.entry, reason=reason),
    }
    return _write(texts, [], Path(folder))


def _write(texts: dict[str, str], libraries: list[Path], target: Path) -> Path:
    """Make the folder elsewhere and move it in when complete; the path of its model_new.py."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            for name, text in texts.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_text(text, encoding="utf-8", newline="")
            for path in libraries:
                shutil.copyfile(path, staged / path.name)
            staged.chmod(0o755)
            _move_in(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise BadEnvironment(
            f"cannot write {target}: {error.strerror or error}",
            "choose a writable folder with --out",
        ) from None
    return target / "model_new.py"


def load(path: str | Path) -> Any:
    """The class `ModelNew` of an exported folder or of its `model_new.py`.

    Raises BadInput when there is none or it cannot be imported.
    """
    file = Path(path)
    file = file / "model_new.py" if file.is_dir() else file
    if file.parent.name != "export" and not file.exists():
        inner = file.parent / "export" / file.name
        file = inner if inner.exists() else file
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"cannot read {file}: {error}", "give a folder that `export` wrote"
        ) from None
    # Named after place and content, so that it can be pickled and two products do not meet.
    place = digest_text(f"{file.resolve()}\n{text}")
    name = f"epitaxy_product_{place[:12]}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise BadInput(f"{file} is not a Python file", "give a folder that `export` wrote")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except EpitaxyError:
            del sys.modules[name]
            raise
        except Exception as error:
            del sys.modules[name]
            raise BadInput(
                f"{file} cannot be imported: {type(error).__name__}: {error}", "export it again"
            ) from error
    if not hasattr(module, "ModelNew"):
        raise BadInput(f"{file} defines no ModelNew", "give a folder that `export` wrote")
    return module.ModelNew


def _libraries(candidate: Candidate, build: Build | None) -> list[Path]:
    if build is None or not build.ok:
        return []
    if not _compiled(candidate):
        toolchain = plugins("toolchains").get(candidate.toolchain)
        return list(toolchain.artefacts(build)) if hasattr(toolchain, "artefacts") else []
    library = Path(build.folder) / kernel_name(candidate)
    return [library, library.with_suffix(".json")]


def _move_in(staged: Path, target: Path) -> None:
    """Replace `target`, whole when it is new, else file by file; older kernels go."""
    if not target.exists():
        staged.rename(target)
        return
    with tempfile.TemporaryFile(dir=target):
        pass  # fails here, before anything is touched, where the folder cannot be written
    fresh = [p.relative_to(staged) for p in sorted(staged.rglob("*")) if p.is_file()]
    earlier = _exported(target)
    for old in target.iterdir():
        ours = old.name in earlier or _OWN.fullmatch(old.name)
        if ours and old.relative_to(target) not in fresh:
            old.unlink()
    for name in fresh:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged / name, target / name)


def _exported(folder: Path) -> frozenset[str]:
    """Names of the C++ that an earlier export left in `folder`, as its evidence tells."""
    try:
        facts = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
        files = facts["candidate"]["files"]
        return frozenset(n for n in files if n.endswith(SOURCE_SUFFIXES) and "/" not in n)
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def _evidence(
    candidate: Candidate, verdict: Verdict | None, problem: Problem, build: Build | None,
    profiled: Profiled | None,
) -> str:  # fmt: skip
    facts = {
        "problem": problem.to_dict(),
        "candidate": candidate.to_dict(),
        "verdict": verdict.to_dict() if verdict else None,
        "profiled": profiled.to_dict() if profiled else None,
        "build": dict(build.fingerprint) if build else None,
        "digests": {
            "problem": problem.digest,
            "candidate": candidate.digest,
            "verdict": verdict.digest if verdict else None,
            "profiled": profiled.digest if profiled else None,
        },
    }
    return json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _readme(
    candidate: Candidate, verdict: Verdict | None, problem: Problem, build: Build | None
) -> str:
    from jinja2 import Environment, StrictUndefined

    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        candidate=candidate,
        verdict=verdict if verdict and verdict.accepted else None,
        problem=problem,
        own_init="def get_init_inputs" in problem.source,
        own_inputs="def get_inputs" in problem.source,
        confidence=max((c.confidence for c in verdict.comparisons), default=0.0) if verdict else 0,
        function=problem.entry if problem.entry.islower() else "",
        library=kernel_name(candidate) if build and build.ok and _compiled(candidate) else "",
        compiler=build.fingerprint.get("compiler", "") if build else "",
        training=training_matters(problem),
        compiled=_compiled(candidate),
        large=_large(problem) if _compiled(candidate) else 0,
        tunables=KEPT_MEMORY,
        basis=BASES[verdict.basis] if verdict else "",
    )


def _large(problem: Problem) -> int:
    """MiB of the largest result, where its memory goes back to the system when freed; else 0."""
    most = max((s.bytes for s in problem.outputs), default=0)
    return most >> 20 if most >= RETURNED_BYTES else 0
