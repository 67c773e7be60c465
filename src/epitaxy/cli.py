"""The `epitaxy` command: exit codes and one-line errors. The commands are in `epitaxy.commands`.

Exit codes: 0 done; 1 no candidate accepted; 2 bad input or unusable environment (one line with
its mend on stderr); 130 interrupted. An unexpected exception keeps its traceback.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from epitaxy.errors import EpitaxyError

DONE, NOTHING_ACCEPTED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    # typer and rich cost as much as the rest of the start: only a command needs them.
    from epitaxy.commands import command

    try:
        code = command()(args=arguments, prog_name="epitaxy", standalone_mode=False)
        sys.stdout.flush()
    except EpitaxyError as error:
        return fail(error.message, error.mend, "--json" in arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has left; a second failure at interpreter exit would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if not _is_usage(error):
            raise
        message: str = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        if not message:  # the help of a group named without a command is printed already
            return DONE
        return fail(message, _usage_mend(error), "--json" in arguments)
    return code if isinstance(code, int) else DONE


def fail(message: str, mend: str, as_json: bool) -> int:
    """Print one error line on stderr (and a JSON document on stdout if asked); exit code 2."""
    message, mend = " ".join(message.split()), " ".join(mend.split())
    print(f"error: {message} — {mend}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message, "mend": mend}))
    return UNUSABLE


def _is_usage(error: Exception) -> bool:
    """Whether typer says that the command line is wrong; its class moved between versions."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _usage_mend(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"see '{context.command_path if context else 'epitaxy'} --help'"


if __name__ == "__main__":
    sys.exit(main())
