"""Folders of a build cache: each appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.errors import BadEnvironment
from epitaxy.record import canonical
from epitaxy.toolchain import Build


def kept(folder: Path, whole: str, make: Callable[[Path], Build]) -> Build:
    """The build in `folder`, or what `make` builds in the fresh folder that it is given.

    A finished build gets the name `folder`; one whose own `folder` is "" is not kept. `whole` is a
    pattern of a file without which a kept one that succeeded is built again. Raises
    BadEnvironment when the cache cannot be written.
    """
    known = _read(folder, whole)
    if known is not None:
        return known
    with _fresh(folder) as made:
        build = make(made)
        if not build.folder:
            return build
        if not build.ok:  # its log is kept alone: not what a compiler left half done
            shutil.rmtree(made)
            made.mkdir(mode=0o700)
        (made / "build.json").write_text(canonical(build), encoding="utf-8")
        made.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:  # whoever was first with the same digest stays
            known = _read(folder, whole)
            if known is not None:
                return known
            shutil.rmtree(folder, ignore_errors=True)  # half a folder, from a crash of the system
            made.rename(folder)
        return build


def written(candidate: Candidate, folder: Path) -> Path:
    """`folder` with the candidate's files, written once. Raises BadEnvironment."""
    if folder.is_dir():
        return folder
    with _fresh(folder) as made:
        write_files(made, candidate.files)
        made.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was first, with the same files
                raise
    return folder


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Texts by their relative names."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")


@contextlib.contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, gone afterwards unless it was renamed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{folder.name[:12]}-", dir=folder.parent))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise BadEnvironment(
            f"cannot write the build cache {folder.parent}: {error.strerror or error}",
            "free space there or set EPITAXY_HOME to a writable folder",
        ) from None


def _read(folder: Path, whole: str) -> Build | None:
    try:
        build = Build.from_dict(json.loads((folder / "build.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    if build.ok and not any(folder.glob(whole)):
        return None
    return build.replace(folder=str(folder))
