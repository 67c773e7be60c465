"""Suites: which problem files a path or the name of a shipped suite stands for, by level."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from epitaxy.errors import BadInput

LEVELS = ("level1", "level2", "level3")
ALL = "all"
"""The name of all shipped levels together."""
_SHIPPED = "share/epitaxy/suites"


@dataclass(frozen=True)
class Entry:
    """One problem file and the level (a folder's name) that it is listed under."""

    level: str
    path: Path

    @property
    def name(self) -> str:
        """`level1/softmax`: one problem of a run."""
        return f"{self.level}/{self.path.stem}" if self.level else self.path.stem


def find(targets: Sequence[str]) -> list[Entry]:
    """The problem files of paths and suite names, in order, each once.

    A folder is searched recursively, a KernelBench checkout by its levels; files and folders that
    begin with "_" or "." are no problems. Raises BadInput for what is not there, or empty.
    """
    found: dict[Path, Entry] = {}
    for target in targets:
        for entry in _entries(target):
            found.setdefault(entry.path.resolve(), entry)
    names: dict[str, Entry] = {}
    for entry in found.values():
        if names.setdefault(entry.name, entry) is not entry:
            raise BadInput(
                f"two problems are called {entry.name}: {names[entry.name].path} and {entry.path}",
                "rename one, or give them in two runs",
            )
    return list(names.values())


def _entries(target: str) -> list[Entry]:
    path = Path(target)
    if path.is_file():
        return [Entry(path.resolve().parent.name, path)]
    if not path.exists():
        if target in (*LEVELS, ALL):
            return _shipped(target)
        raise BadInput(
            f"{target} does not exist",
            f"give a folder, a file, or a shipped suite: {', '.join((*LEVELS, ALL))}",
        )
    root = next((p for p in (path / "KernelBench", path) if _has_levels(p)), path)
    files = list(_files(root))
    if not files:
        raise BadInput(
            f"no problem files in {target}", "give a folder of KernelBench-format .py files"
        )
    return [Entry(_level(file, root), file) for file in files]


def _shipped(name: str) -> list[Entry]:
    root = shipped_folder()
    if root is None:
        raise BadInput(
            "the suites are not part of this installation", "give the path of the folder suites/"
        )
    wanted = LEVELS if name == ALL else (name,)
    return [Entry(level, file) for level in wanted for file in _files(root / level)]


def shipped_folder() -> Path | None:
    """The folder with the shipped suites: a checkout's, or the installed one; None without."""
    package = Path(__file__).parent
    # A checkout's; then those of `pip install --target`, where all lies in one folder.
    places = [package.parents[1] / "suites", package.parent / _SHIPPED]
    try:
        files = importlib.metadata.files("epitaxy") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    marks = [f for f in files if f.match(f"{_SHIPPED}/{LEVELS[0]}/*.py")]
    places += [Path(str(f.locate())).resolve().parents[1] for f in marks[:1]]
    return next((p for p in places if _has_levels(p)), None)


def _has_levels(folder: Path) -> bool:
    return (folder / LEVELS[0]).is_dir()


def _files(root: Path) -> Iterator[Path]:
    """Problem files under `root`, level by level, as people count."""
    found = [
        p
        for p in root.rglob("*.py")
        if p.is_file() and not any(x[0] in "._" for x in p.relative_to(root).parts)
    ]
    yield from sorted(found, key=lambda p: [natural(x) for x in p.relative_to(root).parts])


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key under which 2_conv comes before 10_conv."""
    return [(int(x), "") if x.isdigit() else (-1, x) for x in re.split(r"(\d+)", name) if x]


def _level(file: Path, root: Path) -> str:
    inner = file.parent.relative_to(root).as_posix()
    return root.resolve().name if inner == "." else inner
