"""What the builders of bundles share: programs that are run confined, each with a job in a file.

A job holds `inputs`: for each input its shape and dtype, or None where it is no tensor. The bundle
is `model_new.py` beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_LINES, MOST_LETTERS = 3, 600


class Refused(Exception):
    """What cannot be built, in one line."""


def build(path: str, work: Callable[[dict[str, Any]], None], last: bool = False) -> int:
    """`work` on the job in a file, and the exit status; what is refused goes to stdout as one line
    that begins with `error:`. Of an exception the first lines are told, or the `last`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        work(job)
    except Refused as refused:
        print(f"error: {refused}")
        return 1
    except Exception as error:
        print(f"error: {type(error).__name__}: {telling(error, last)}")
        return 1
    return 0


def telling(error: BaseException, last: bool = False) -> str:
    """Few lines of a message, as one."""
    lines = [x.strip() for x in str(error).splitlines() if x.strip()]
    chosen = lines[-MOST_LINES:] if last else lines[:MOST_LINES]
    return " | ".join(chosen)[:MOST_LETTERS] or "no message"


def opened() -> tuple[Any, dict[str, Any]]:
    """The bundle's ModelNew and the names of its module; PyTorch has one thread."""
    import torch

    from epitaxy.worker.loading import load_file

    torch.set_num_threads(1)
    model = load_file("model_new.py", "ModelNew", "model_new")
    return model, sys.modules["model_new"].__dict__


def called(model: Any, module: dict[str, Any], job: dict[str, Any]) -> None:
    """Construct ModelNew and call it once, on zeros of the inputs' shapes; what is no tensor comes
    from the reference's own inputs."""
    import torch

    made = model(*module["get_init_inputs"]() if "get_init_inputs" in module else ()).eval()
    own = module["get_inputs"]() if None in job["inputs"] else job["inputs"]
    given = [
        x if s is None else torch.zeros(s[0], dtype=getattr(torch, s[1]))
        for x, s in zip(own, job["inputs"], strict=True)
    ]
    with torch.no_grad():
        made(*given)
