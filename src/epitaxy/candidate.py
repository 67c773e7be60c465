"""Candidate: one proposed implementation, frozen. It holds no results."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from epitaxy.errors import BadCandidate
from epitaxy.problem import Work
from epitaxy.record import FrozenDict, Record, record

MOST_FILES, MOST_CHARACTERS, LONGEST_NAME, DEEPEST = 256, 8 << 20, 100, 8


@record
class Candidate(Record):
    """Sources for one problem and one toolchain, and where they came from.

    `files` maps relative names to text; `entry` is the file that the toolchain starts from.
    `genome` lists the named decisions that the grower made ("" when there is none).
    `regions` names what the candidate replaces; `left` what stays with the framework.
    `work` is the least work of what it computes where that is less than the reference's, and
    `algebra` the rules by which the two are equal.
    """

    problem: str
    toolchain: str
    files: FrozenDict[str]
    entry: str
    proposer: str
    intent: str = ""
    genome: str = ""
    parents: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    work: Work | None = None
    algebra: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data; algebra that was not used is left out, so that older digests hold."""
        data = super().to_dict()
        if self.work is None:
            del data["work"]
        if not self.algebra:
            del data["algebra"]
        return data

    def validate(self) -> None:
        if self.entry not in self.files:
            raise BadCandidate(
                f"entry {self.entry!r} is not among the files", f"files: {', '.join(self.files)}"
            )
        if len(self.files) > MOST_FILES or sum(map(len, self.files.values())) > MOST_CHARACTERS:
            raise BadCandidate(
                f"its sources are more than {MOST_FILES} files or {MOST_CHARACTERS} characters",
                "generate tables when the kernel is loaded",
            )
        for name, text in self.files.items():
            fault = _misnamed(name, self.files)
            if fault:
                raise BadCandidate(f"file name {name!r} {fault}", "use plain relative names")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise BadCandidate(f"{name} is not Unicode text", "save it as UTF-8") from None


def _misnamed(name: str, files: Collection[str]) -> str:
    """Why no candidate's file may be called so; "" when it may."""
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return "leaves the candidate's folder"
    if any(part[0] in "-@" for part in parts):
        return "would be taken for an option of the compiler"
    longest = max(len(part.encode(errors="replace")) for part in parts)
    if not name.isprintable() or longest > LONGEST_NAME or len(parts) > DEEPEST:
        return "is not printable, or too long, or too deep"
    if any("/".join(parts[:i]) in files for i in range(1, len(parts))):
        return "lies in a folder that is a file"
    return ""
