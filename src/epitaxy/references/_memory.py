"""Refuse what needs more memory than there is, before the system swaps or kills."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

from epitaxy.errors import BadProblem
from epitaxy.memory import available_bytes


@contextlib.contextmanager
def memory_guard(name: str) -> Iterator[None]:
    """Turn an allocation beyond the memory there is into BadProblem about the problem `name`."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = used + available_bytes()
    if old[1] == resource.RLIM_INFINITY or limit < old[1]:
        resource.setrlimit(resource.RLIMIT_AS, (limit, old[1]))
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise BadProblem(f"{name} needs more memory than there is", "make it smaller") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "can't allocate memory" in text or "bad_alloc" in text
