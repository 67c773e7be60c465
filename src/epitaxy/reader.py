"""Reader: the contract of a plugin that understands one format of profiler reports."""

from __future__ import annotations

import gzip
import zlib
from functools import cached_property
from pathlib import Path
from typing import Protocol

from epitaxy.errors import BadInput
from epitaxy.metric import Profile

HEAD_BYTES = 1 << 20
"""What readers judge a report by: a program may print a lot before its profiler does."""
MOST_BYTES = 1 << 30
"""Reports are read whole; a larger one (after unpacking) is refused with a mend."""


class Report:
    """A file, or a folder of files, that some profiler wrote; each part is read at most once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The file's name in small letters, without ".gz"."""
        return self.path.name.lower().removesuffix(".gz")

    @property
    def is_folder(self) -> bool:
        """Whether the report is a folder of files."""
        return self.path.is_dir()

    @cached_property
    def head(self) -> bytes:
        """The first bytes, unpacked; b"" for a folder. Raises BadInput."""
        if self.is_folder:
            return b""
        return self.data[:HEAD_BYTES] if self._packed else self._read(HEAD_BYTES)

    @cached_property
    def data(self) -> bytes:
        """All bytes, unpacked. Raises BadInput when it cannot be read or is too large."""
        raw = self._read(MOST_BYTES + 1)
        if self._packed:
            try:
                raw = _unpacked(raw)
            except (OSError, EOFError, zlib.error) as error:
                raise BadInput(
                    f"{self.path} is no whole gzip file: {error}", "copy it again"
                ) from None
        if len(raw) > MOST_BYTES:
            raise BadInput(
                f"{self.path} holds more than {MOST_BYTES >> 20} MiB",
                "profile fewer kernels or steps",
            )
        return raw

    @cached_property
    def text(self) -> str:
        """All of it as UTF-8. Raises BadInput where it is not text."""
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadInput(
                f"{self.path} is not text", "name the file that the profiler wrote"
            ) from None

    @cached_property
    def first_lines(self) -> tuple[str, ...]:
        """Lines of the head, as far as they are text."""
        return tuple(self.head.decode("utf-8-sig", errors="replace").splitlines())

    @cached_property
    def _packed(self) -> bool:
        return not self.is_folder and self._read(2) == b"\x1f\x8b"

    def _read(self, most: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise BadInput(
                f"cannot read {self.path}: {error.strerror or error}", "name a report that exists"
            ) from None


def _unpacked(raw: bytes) -> bytes:
    """At most one byte more than is allowed: a small file may hold a very large one."""
    import io

    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
        return file.read(MOST_BYTES + 1)


class Reader(Protocol):
    """One format. `what` says in one line which tool and options write it."""

    name: str
    what: str

    def recognises(self, report: Report) -> bool:
        """Whether the report is of this format, judged by its head; never raises."""
        ...

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each kernel launch (or each kernel). Raises BadInput, BadEnvironment."""
        ...
