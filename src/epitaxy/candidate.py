"""Candidate: one proposed implementation, frozen. It holds no results."""

from __future__ import annotations

from epitaxy.errors import BadCandidate
from epitaxy.record import FrozenDict, Record, record


@record
class Candidate(Record):
    """Sources for one problem and one toolchain, and where they came from.

    `files` maps relative names to text; `entry` is the file that the toolchain starts from.
    `genome` lists the named decisions that the grower made ("" when there is none).
    `regions` names what the candidate replaces; `left` what stays with the framework.
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

    def validate(self) -> None:
        if self.entry not in self.files:
            raise BadCandidate(
                f"entry {self.entry!r} is not among the files", f"files: {', '.join(self.files)}"
            )
        for name in self.files:
            if name.startswith("/") or ".." in name.split("/") or not name:
                raise BadCandidate(
                    f"file name {name!r} leaves the candidate's folder", "use plain relative names"
                )
