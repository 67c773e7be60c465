"""A candidate's files as a folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.errors import BadEnvironment


def written(candidate: Candidate, folder: Path) -> Path:
    """`folder` with the candidate's files, written once. Raises BadEnvironment."""
    try:
        if not folder.is_dir():
            _write(candidate, folder)
    except OSError as error:
        raise BadEnvironment(
            f"cannot write the build cache {folder.parent}: {error.strerror or error}",
            "free space there or set EPITAXY_HOME to a writable folder",
        ) from None
    return folder


def _write(candidate: Candidate, folder: Path) -> None:
    """Write beside `folder`, then rename, so that half a candidate is never seen."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name[:12]}-", dir=folder.parent))
    try:
        for name, text in candidate.files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        made.chmod(0o755)
        _settle(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _settle(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same files
            raise
