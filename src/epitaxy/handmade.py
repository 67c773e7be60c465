"""Candidates that somebody wrote: a folder of sources, one file, or named texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.errors import BadCandidate
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict

ENTRIES = {"forward.py": "cpp", "model_new.py": "torch"}
"""The file that a candidate must hold, and the toolchain that it implies."""
SOURCES = {".py", ".cpp", ".cc", ".c", ".h", ".hpp"}
HAND = "hand"


def read_folder(folder: Path, problem: Problem) -> Candidate:
    """The candidate whose sources lie in `folder`, or that one Python file is.

    Raises BadCandidate.
    """
    if folder.is_file():
        text = _texts([folder], folder)
        return written({"model_new.py": text[folder.name]}, problem, intent=f"from {folder.name}")
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix in SOURCES and p.is_file())
    except OSError as error:
        raise BadCandidate(
            f"cannot read {folder}: {error}", "give readable UTF-8 sources"
        ) from None
    if not any((folder / name).is_file() for name in ENTRIES):
        raise BadCandidate(
            f"{folder} holds no {' or '.join(ENTRIES)}", "add the file to start from"
        )
    return written(_texts(paths, folder), problem, intent=f"from {folder.name}")


def _texts(paths: list[Path], named: Path) -> dict[str, str]:
    try:
        return {p.name: p.read_text(encoding="utf-8") for p in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise BadCandidate(f"cannot read {named}: {error}", "give readable UTF-8 sources") from None


def written(
    files: Mapping[str, str],
    problem: Problem,
    *,
    toolchain: str = "",
    proposer: str = HAND,
    intent: str = "",
    parent: Candidate | None = None,
) -> Candidate:
    """The candidate of these texts by name; files not given are those of `parent`.

    The toolchain is the parent's, or what the entry implies. Raises BadCandidate.
    """
    texts = {**(parent.files if parent else {}), **files}
    entry = parent.entry if parent else next((name for name in ENTRIES if name in texts), None)
    if entry is None:
        raise BadCandidate(
            f"among {', '.join(texts) or 'no files'} is no {' or '.join(ENTRIES)}",
            "add the file to start from",
        )
    return Candidate(
        problem=problem.digest,
        toolchain=toolchain or (parent.toolchain if parent else ENTRIES[entry]),
        files=FrozenDict(texts),
        entry=entry,
        proposer=proposer,
        intent=intent,
        parents=(parent.digest,) if parent else (),
        regions=parent.regions if parent else (),
        left=parent.left if parent else (),
    )
