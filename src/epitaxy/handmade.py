"""Candidates that somebody wrote: a folder of sources, one file, or named texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from epitaxy.candidate import MOST_CHARACTERS, Candidate
from epitaxy.chip import Chip
from epitaxy.errors import BadCandidate
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict, printable
from epitaxy.toolchain import Crossing

ENTRIES = ("forward.py", "model_new.py")
"""The file that a candidate must hold; a folder that was exported holds both."""
SOURCES = {".py", ".cpp", ".cc", ".c", ".h", ".hpp"}
HAND, SMALL = "hand", "small"


def read_folder(
    folder: Path, problem: Problem, *, toolchain: str = "", chip: Chip | None = None
) -> Candidate:
    """The candidate whose sources lie in `folder`, or that one Python file is.

    `toolchain` is what its files and `chip` imply where it is "". Raises BadCandidate.
    """
    if folder.is_file():
        if folder.suffix != ".py" or folder.name.startswith("."):
            raise BadCandidate(f"{folder.name} is no Python source", "give a .py file or a folder")
        text = _texts([folder], folder)
        return written({"model_new.py": text[folder.name]}, problem, intent=f"from {folder.name}")
    known = SOURCES | {Path(pattern).suffix for _, pattern in _patterns()}
    inner = folder / SMALL
    try:
        places = [folder, *([inner] if inner.is_dir() else [])]
        paths = sorted(
            p for place in places for p in place.iterdir() if p.suffix in known and p.is_file()
        )
    except OSError as error:
        raise BadCandidate(
            f"cannot read {folder}: {error}", "give readable UTF-8 sources"
        ) from None
    if not any((folder / name).is_file() for name in ENTRIES):
        raise BadCandidate(
            f"{folder} holds no {' or '.join(ENTRIES)}", "add the file to start from"
        )
    texts = _texts(paths, folder)
    named = toolchain or implied(texts, chip)
    return written(texts, problem, toolchain=named, intent=f"from {folder.name}")


def _patterns() -> Iterator[tuple[str, str]]:
    """Toolchains and the patterns of the files that they start from."""
    kinds = plugins("toolchains")
    for name in kinds.names():
        for pattern in getattr(kinds.get(name), "sources", ()):
            yield name, pattern


def implied(names: Iterable[str], chip: Chip | None = None) -> str:
    """The toolchain that starts from files of these names, and builds for `chip` if one is named.

    Raises BadCandidate where there is none, or more than one.
    """
    own = {n for n in names if "/" not in n}
    own -= {ENTRIES[1]} if ENTRIES[0] in own else set()
    kinds = plugins("toolchains")
    taking = dict.fromkeys(t for t, p in _patterns() if any(fnmatch(n, p) for n in own))
    if chip is not None:
        crossing = [t for t in taking if isinstance(kinds.get(t), Crossing)]
        taking = dict.fromkeys(t for t in crossing if kinds.get(t).targets(chip))
    if len(taking) == 1:
        return next(iter(taking))
    if taking:
        raise BadCandidate(
            f"several toolchains take these files: {', '.join(taking)}", "name one: --toolchain"
        )
    where = f" and builds for {chip.name}" if chip else ""
    patterns = ", ".join(dict.fromkeys(p for _, p in _patterns()))
    raise BadCandidate(
        f"no toolchain takes {', '.join(sorted(own)) or 'no files'}{where}",
        f"add a source; toolchains take {patterns}",
    )


def _texts(paths: list[Path], named: Path) -> dict[str, str]:
    try:
        if sum(p.stat().st_size for p in paths) > MOST_CHARACTERS:
            raise BadCandidate(
                f"{named} holds more than 8 MiB of sources", "leave out what is none"
            )
        return {
            p.relative_to(named).as_posix() if p != named else p.name: p.read_text(encoding="utf-8")
            for p in paths
        }
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

    The toolchain is the parent's, or what the files imply. Raises BadCandidate.
    """
    texts = {**(parent.files if parent else {}), **files}
    entry = parent.entry if parent else next((name for name in ENTRIES if name in texts), None)
    if entry is None:
        raise BadCandidate(
            f"among {', '.join(texts) or 'no files'} is no {' or '.join(ENTRIES)}",
            "add the file to start from",
        )
    made = Candidate(
        problem=problem.digest,
        toolchain=toolchain or (parent.toolchain if parent else ""),
        files=FrozenDict(texts),
        entry=entry,
        proposer=proposer,
        intent=printable(intent),
        parents=(parent.digest,) if parent else (),
        regions=parent.regions if parent else (),
        left=parent.left if parent else (),
    )
    # The names come first: what they may not be is said before what nobody takes.
    return made if made.toolchain else made.replace(toolchain=implied(texts))
