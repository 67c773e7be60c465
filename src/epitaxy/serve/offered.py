"""The problems that an agent may work on: chosen by whoever starts the server.

A reference is run by the judge itself and says what is correct, so that an agent must not write
one. Files are read when the server starts; what is judged later is that text, whatever has become
of the file since. Problems that the ledger holds are offered too: somebody ran them before.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from epitaxy import unvouched
from epitaxy.errors import BadInput, UnknownName
from epitaxy.ledger import Ledger
from epitaxy.problem import Policy, Problem, load
from epitaxy.record import Record, digest_text, record
from epitaxy.serve.place import Place


@record
class OfferCard(Record):
    """A problem that is offered. `problem` is its id, "" until it was loaded; `source_sha256` is
    the text's; `edited` says that the file has another text by now, which is another problem."""

    name: str
    problem: str
    origin: str
    source_sha256: str
    edited: bool = False


@record
class OffersCard(Record):
    """Every problem that may be worked on."""

    problems: tuple[OfferCard, ...]
    note: str = ""


@dataclass
class _Pinned:
    """A file as it was when the server started, with the policy beside it."""

    path: Path
    text: str
    policy: str | None
    problem: Problem | None = field(default=None, repr=False)

    @property
    def edited(self) -> bool:
        return _read(self.path) != self.text or _policy(self.path) != self.policy

    def load(self) -> Problem:
        if self.problem is None:
            with tempfile.TemporaryDirectory(prefix="epitaxy-pinned-") as folder:
                copy = Path(folder, self.path.name)
                copy.write_text(self.text, encoding="utf-8")
                if self.policy is not None:
                    copy.with_suffix(".toml").write_text(self.policy, encoding="utf-8")
                self.problem = load(copy)
        return self.problem


class Offers:
    """Problems by name. `free` lets an agent name any file below the place: its code is then run
    with the rights of whoever started the server."""

    def __init__(
        self, files: Sequence[str], place: Place, open_ledger: Callable[[], Ledger], free: bool
    ) -> None:
        self.place, self.free = place, free
        self._open_ledger = open_ledger
        self._lock = threading.Lock()
        self._pinned: dict[str, _Pinned] = {}
        for name in files:
            self._pin(Path(name))

    def _pin(self, path: Path) -> None:
        if not path.is_file():
            raise BadInput(f"no such file: {path}", "name the problems' files")
        text = _read(path)
        if text is None:
            raise BadInput(f"{path} cannot be read", "give a readable text file")
        name = path.stem if path.stem not in self._pinned else str(path)
        self._pinned[name] = _Pinned(path.resolve(), text, _policy(path))

    def names(self) -> list[str]:
        """Names that `problem` takes, without those that only the ledger knows."""
        return list(self._pinned)

    def cards(self) -> OffersCard:
        """What is offered, files first."""
        pinned = [
            OfferCard(
                name=name,
                problem=it.problem.id if it.problem else "",
                origin=f"{it.path.name}, as it was when the server started",
                source_sha256=digest_text(it.text),
                edited=it.edited,
            )
            for name, it in self._pinned.items()
        ]
        with self._open_ledger() as ledger:
            recorded = [
                OfferCard(
                    name=p.name,
                    problem=p.id,
                    source_sha256=digest_text(p.source),
                    origin="; ".join(filter(None, ("ledger", unvouched.note(ledger, p.digest)))),
                )
                for p in ledger.problems()
                if p.name not in self._pinned
            ]
        free = "any file below the working folder may be named too" if self.free else ""
        none = "none is offered: start the server with the problems' files: epitaxy mcp model.py"
        known = (*pinned, *recorded)
        return OffersCard(problems=known, note=free or ("" if known else none))

    def problem(self, name: str) -> Problem:
        """The problem of that name, file or id. Loading runs its code and imports torch.

        Raises UnknownName, BadProblem, BadInput.
        """
        with self._lock:
            it = self._pinned.get(name) or self._by_path(name)
            if it is not None:
                return it.load()
        if self.free and name.endswith(".py"):
            # Under the usual policy: a .toml beside it could be the agent's too.
            named = load(self.place.present(name), policy=Policy())
            with self._open_ledger() as ledger:
                unvouched.mark(ledger, named, name)
            return named
        loaded = [p.problem for p in self._pinned.values() if p.problem]
        for problem in loaded:
            if len(name) >= 6 and problem.digest.startswith(name):
                return problem
        with self._open_ledger() as ledger:
            try:
                return ledger.problem(name)
            except UnknownName:
                known = [*self._pinned, *(p.name for p in ledger.problems())]
                raise UnknownName.of("problem", name, known) from None

    def _by_path(self, name: str) -> _Pinned | None:
        try:
            path = self.place.inside(name)
        except BadInput:
            return None
        return next((it for it in self._pinned.values() if it.path == path), None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def _policy(path: Path) -> str | None:
    beside = path.with_suffix(".toml")
    return _read(beside) if beside.exists() else None
