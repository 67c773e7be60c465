"""Turn a problem's or a candidate's source into something callable. Shared by broker and worker."""

from __future__ import annotations

import linecache
import os
import sys
import types
from collections.abc import Sequence
from typing import Any

INIT_SEED = 42
"""Seed set before a module is constructed, so that unregistered random constants agree."""


def load_entry(source: str, entry: str, name: str, path: str = "") -> Any:
    """Run `source` as the module `name` and return what it calls `entry`.

    The module is registered, and its text with `linecache`, so that `inspect`, `torch.compile`
    and tracebacks can read it. `path` becomes `__file__`. Raises whatever the source raises, and
    NameError when it defines no `entry`.
    """
    module = types.ModuleType(name)
    filename = path or f"<{name}>"
    module.__file__ = path or None
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    sys.modules[name] = module
    try:
        exec(compile(source, filename, "exec"), module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    if not hasattr(module, entry):
        raise NameError(f"the source defines no {entry}")
    return getattr(module, entry)


def load_file(path: str, entry: str, name: str) -> Any:
    """`load_entry` of a file."""
    with open(path, encoding="utf-8") as file:
        return load_entry(file.read(), entry, name, os.path.abspath(path))


def construct(target: Any, init: Sequence[Any], state: dict[str, Any]) -> Any:
    """A callable in eval mode: the module built from `init` with `state` loaded, or the function.

    `state` maps names to tensors of the shapes of the module's own. Raises what the constructor
    or `load_state_dict` raises.
    """
    import torch

    if not (isinstance(target, type) and issubclass(target, torch.nn.Module)):
        return target
    torch.manual_seed(INIT_SEED)
    module = target(*init)
    # A module without parameters that calls no super().__init__ cannot load, nor need it.
    if state or module.state_dict():
        module.load_state_dict(state)
    return module.eval()


def lazy(result: Any) -> bool:
    """Whether a container among the results runs code of its own when it is read."""
    if isinstance(result, tuple | list):
        plain = type(result).__iter__ in (tuple.__iter__, list.__iter__)
        return not plain or any(lazy(part) for part in result)
    return False


def flatten(result: Any) -> list[Any]:
    """The tensors of a result in order: one tensor, or tuples and lists of them."""
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in flatten(part)]
    return [result]
