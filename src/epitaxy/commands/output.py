"""What every command shares: where its output goes and how it is laid out."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from epitaxy.cli import DONE
from epitaxy.errors import BadEnvironment, MachineFault, UnknownName
from epitaxy.problem import WEIGHTS

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
LedgerPath = Annotated[
    Path | None, typer.Option("--ledger", help="Ledger file (default: <home>/ledger.sqlite).")
]
Precision = Annotated[
    str,
    typer.Option("--precision", help="fp32-strict (default), tf32-like, bf16-accumulate-fp32 ..."),
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Refuse outputs that differ from call to call."),
]
Weights = Annotated[
    str,
    typer.Option("--weights", help="frozen (default: copies of weights may be kept) or live."),
]


def policy_options(precision: str, deterministic: bool, weights: str = "") -> dict[str, Any]:
    """Fields of a problem's policy that the command line sets. Raises UnknownName."""
    from epitaxy.precision import precision as known

    found: dict[str, Any] = {"precision": known(precision).name} if precision else {}
    found |= {"deterministic": True} if deterministic else {}
    if weights and weights not in WEIGHTS:
        raise UnknownName.of("weights policy", weights, WEIGHTS)
    return found | ({"weights": weights} if weights else {})


def open_ledger(path: Path | None) -> Any:
    """The ledger at `path`, or the user's own."""
    from epitaxy.ledger import Ledger

    ledger = Ledger(path) if path else Ledger()
    if ledger.adopted:
        note(f"{ledger.path}: {ledger.adopted} rows of an older version are chained from now on")
    return ledger


_results: list[TextIO] = []
"""Where results go while `results_apart` holds, the innermost last."""


def add(app: Any, *functions: Callable[..., int]) -> None:
    """Make commands of `functions`; each runs with `results_apart`."""

    def apart(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def run(*arguments: Any, **options: Any) -> int:
            try:
                with results_apart():
                    return function(*arguments, **options)
            except BrokenPipeError:
                # Here, because click would end the process without a word.
                if not _reader_left():
                    raise MachineFault("a process of its own ended early", "try again") from None
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return DONE

        return run

    for function in functions:
        app.command()(apart(function))


def _reader_left() -> bool:
    """Whether nobody reads stdout any more (head, less)."""
    out = _descriptor(sys.stdout)
    if out is None:
        return False
    poll = select.poll()
    poll.register(out, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextlib.contextmanager
def results_apart() -> Iterator[None]:
    """Results alone on stdout: what a problem's own code or a library prints goes to stderr.

    Processes started meanwhile inherit this. Where stdout or stderr is no descriptor (in a test,
    a notebook) only Python's own printing is moved.
    """
    shown = sys.stdout
    out, err = _descriptor(shown), _descriptor(sys.stderr)
    with contextlib.ExitStack() as stack:
        stream = shown
        if out is not None and err is not None and out != err:
            shown.flush()
            kept = os.dup(out)
            stream = stack.enter_context(
                open(kept, "w", encoding=shown.encoding, buffering=1 if shown.isatty() else -1)
            )
            # Undone before the stream above is closed, which may fail when its reader has left.
            stack.callback(lambda: os.dup2(kept, out))
            os.dup2(err, out)
        _results.append(stream)
        stack.callback(_results.pop)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def results() -> TextIO:
    """The stream for results: the real stdout."""
    return _results[-1] if _results else sys.stdout


def line(text: str = "") -> None:
    """One line of results, on the real stdout."""
    print(text, file=results())


def stdout() -> Console:
    """A console for results; wide when stdout is no terminal, so that nothing is cut in a log."""
    width = None if results().isatty() else 160
    return Console(file=results(), width=width, highlight=False, soft_wrap=False)


def note(text: str) -> None:
    """One remark on stderr."""
    print(text, file=sys.stderr, flush=True)


def emit(document: Any) -> None:
    """The one JSON document of a `--json` command."""
    line(json.dumps(document, indent=2, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """A plain table on stdout; cells are shown as they are, never read as markup."""
    table = Table(
        title=Text(title) if title else None, title_justify="left", box=None, pad_edge=False
    )
    for name in header:
        table.add_column(Text(name, style="bold"), overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    stdout().print(table)


def writable_folder(folder: Path) -> Path:
    """`folder`, made if need be and proved writable. Raises BadEnvironment."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadEnvironment(
            f"cannot write to {folder}: {error.strerror or error}",
            "choose another folder with --out",
        ) from None
    return folder


def write_text(path: Path, text: str) -> Path:
    """Write `path` at once or not at all. Raises BadEnvironment."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True) if partial.parent.is_dir() else None
        raise BadEnvironment(
            f"cannot write {path}: {error.strerror or error}",
            "free some space or choose another folder",
        ) from None
    return path
