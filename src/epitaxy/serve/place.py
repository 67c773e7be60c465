"""The working folder given at the start: no path that an agent sends leads out of it."""

from __future__ import annotations

import sys
from pathlib import Path

import epitaxy
from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput
from epitaxy.handmade import SMALL, read_folder
from epitaxy.problem import Problem


def leave_path(root: Path) -> list[str]:
    """Import nothing from below `root` and from the current folder from now on: an agent writes
    there. What this process cannot do without stays: the folder that holds this package, and the
    interpreter's own; those of them that are below `root` are returned, to be told of."""
    ours = Path(epitaxy.__file__).resolve().parents[1]
    top = root.resolve()
    needed = {ours, *(Path(p).resolve() for p in (sys.prefix, sys.base_prefix, sys.exec_prefix))}
    inner = {path for path in needed if path.is_relative_to(top)}

    def stays(path: Path) -> bool:
        if path.is_relative_to(top):
            return any(path.is_relative_to(place) for place in inner)
        return path in (ours, *inner) or path != Path.cwd()

    sys.path[:] = [p or str(ours) for p in sys.path if stays(Path(p or ".").resolve())]
    return sorted(map(str, inner))


class Place:
    """Paths below `root`. Links are followed first, so that none points elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        if not self.root.is_dir():
            raise BadInput(f"{root} is no folder", "name a folder that exists with --root")

    def inside(self, text: str) -> Path:
        """The path that `text` names. Raises BadInput when it is not below the root."""
        try:
            path = (self.root / text).resolve()
        except (OSError, ValueError, RuntimeError):
            raise BadInput(f"{text[:80]!r} is no path", "name a path below the root") from None
        if not path.is_relative_to(self.root):
            raise BadInput(f"{text[:80]} leads out of the working folder", "stay below it")
        return path

    def present(self, text: str) -> Path:
        """As `inside`, for what must exist."""
        path = self.inside(text)
        if not path.exists():
            raise BadInput(f"there is no {text[:80]}", "name what exists below the working folder")
        return path

    def fresh(self, text: str) -> Path:
        """As `inside`, for a folder to be written: absent or empty, and not the root itself."""
        path = self.inside(text)
        if path == self.root or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise BadInput(f"{text[:80]} exists already", "name a new folder: nothing is replaced")
        return path

    def candidate(self, text: str, problem: Problem) -> Candidate:
        """The candidate whose sources lie in the folder or file `text`."""
        path = self.present(text)
        for entry in (*path.glob("*"), *path.glob(f"{SMALL}/*")) if path.is_dir() else (path,):
            if not entry.resolve().is_relative_to(self.root):
                raise BadInput(f"{entry.name} leads out of the working folder", "copy it in")
        return read_folder(path, problem)
