"""Live progress on stderr: one redrawn panel on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol, TextIO

LINE_EVERY_S = 5.0
"""In a log: at most one line in this many seconds, unless something happened."""


class Progress(Protocol):
    """What a study tells after each step. Times in seconds; None where nothing is known yet."""

    phase: str
    elapsed_s: float
    left_s: float | None
    judged: int
    accepted: int
    refused: int
    failed: int
    best_time_s: float | None
    speedup: float | None
    of_limit: float | None
    notes: tuple[str, ...]


def duration(seconds: float | None) -> str:
    """Seconds as a person writes them: `850 ms`, `12 s`, `2 min 05 s`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{max(seconds, 0.0) * 1e3:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def milliseconds(time_s: float | None) -> str:
    """A kernel's time in ms with three or four significant digits."""
    if time_s is None:
        return "–"
    ms = time_s * 1e3
    digits = 1 if ms >= 100 else 2 if ms >= 10 else 3 if ms >= 0.1 else 4
    return f"{ms:.{digits}f} ms"


def describe(progress: Progress) -> str:
    """The state of a search in one line."""
    best = milliseconds(progress.best_time_s)
    parts = [f"{progress.phase:<18}", f"best {best}"]
    if progress.speedup is not None:
        parts.append(f"{progress.speedup:.2f}x the strongest baseline")
    if progress.of_limit is not None:
        parts.append(f"{progress.of_limit:.0%} of the limit")
    parts.append(f"{progress.judged} judged, {progress.refused} refused, {progress.failed} failed")
    if progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} left")
    return " | ".join(parts)


class Display:
    """Shows a search while it runs; give it to `study.optimize(callbacks=[display])`.

    Use as a context manager. `stream` defaults to stderr.
    """

    def __init__(self, title: str, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.title = title
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self._live: Any = None
        self._last: Progress | None = None
        self._step: tuple[str, float] = ("starting", 0.0)
        self._said_s = float("-inf")
        self._said: tuple[str, float | None] = ("", None)
        self._noted: set[str] = set()

    def __enter__(self) -> Display:
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self.stream)
            self._live = Live(
                console=console, get_renderable=self._panel, refresh_per_second=4, transient=True
            )
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None
        if self._last is not None and not self.quiet:
            self._print(describe(self._last))

    def __call__(self, progress: Progress) -> None:
        """Take the newest state of the study."""
        self._last = progress
        for text in progress.notes:
            if text not in self._noted:
                self._noted.add(text)
                self.note(f"note: {text}")
        new = (progress.phase, progress.best_time_s)
        if new != self._said or time.monotonic() - self._said_s >= LINE_EVERY_S:
            self._said = new
            self._line(describe(progress))

    def step(self, fraction: float, text: str) -> None:
        """Progress of a step before the search (probing): `fraction` from 0 to 1."""
        before, self._step = self._step, (text, fraction)
        if before[0] != text or time.monotonic() - self._said_s >= LINE_EVERY_S:
            self._line(f"{text} ({fraction:.0%})")

    def note(self, text: str) -> None:
        """One remark that stays on the screen."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self._print(text)

    def _line(self, text: str) -> None:
        self._said_s = time.monotonic()
        if self._live is None and not self.quiet:
            self._print(text)

    def _print(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.text import Text

        shown = self._last
        if shown is None:
            text, fraction = self._step
            spinner = Spinner("dots", Text(f" {text}"))
            return Panel(
                Group(spinner, ProgressBar(1.0, fraction)), title=self.title, title_align="left"
            )
        total = shown.elapsed_s + (shown.left_s or 0.0)
        bar = ProgressBar(total or 1.0, shown.elapsed_s if shown.left_s is not None else 0.0)
        return Panel(
            Group(Spinner("dots", Text(f" {shown.phase}")), _figures(shown), bar),
            title=Text(self.title),
            title_align="left",
        )


def _figures(progress: Progress) -> Any:
    """The numbers of the live panel, as a rich table."""
    from rich.table import Table

    table = Table.grid(padding=(0, 3))
    speedup = "–" if progress.speedup is None else f"{progress.speedup:.2f}x"
    limit = "–" if progress.of_limit is None else f"{progress.of_limit:.0%}"
    table.add_row("best so far", milliseconds(progress.best_time_s), "of the limit", limit)
    table.add_row("over the strongest baseline", speedup, "time left", duration(progress.left_s))
    table.add_row(
        "judged",
        str(progress.judged),
        "refused / failed",
        f"{progress.refused} / {progress.failed}",
    )
    return table
