"""What Python decides in a live module, and whether it changed: kernels hold it as it was."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

Described = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Of each part by its path: its class, and its plain attributes, `training` among them."""


def described(model: Any) -> Described:
    """What decides, beside parameters, buffers and inputs, what `model` computes."""
    return {
        path: (type(part).__name__ if path else "", dict(_plain(part)) | _hooked(part, path))
        for path, part in model.named_modules()
    }


def change(was: Described, now: Described) -> str:
    """The first thing in which two descriptions differ; "" where there is none."""
    for path in {**was, **now}:
        where = path or "it"
        if path not in now or path not in was:
            return f"{where} is {'gone' if path in was else 'new'}"
        (kind, old), (other, new) = was[path], now[path]
        if kind != other:
            return f"{where} is a {other}, optimized as a {kind}"
        for name in {**old, **new}:
            before, after = old.get(name), new.get(name)
            if not _same(before, after):
                another = "another " if repr(before) == repr(after) else ""
                return (
                    f"{f'{path}.' if path else ''}{name} is {another}{after!r}, optimized for "
                    f"{before!r}"
                )
    return ""


@dataclass(frozen=True)
class _Function:
    """A function as it was: two of one name may hold different values."""

    held: Any

    def __repr__(self) -> str:
        return repr(getattr(self.held, "__qualname__", self.held))

    @property
    def written(self) -> bool:
        """Whether its text says all of it: a function with plain arguments."""
        own = self.held
        return isinstance(own, partial) and _is_plain((*own.args, *own.keywords.values()))


class _Hooks(tuple[_Function, ...]):
    """Those of one kind that a part has, in order."""


def _same(before: Any, after: Any) -> bool:
    if repr(before) != repr(after):
        return False
    if isinstance(before, _Hooks) and isinstance(after, _Hooks):
        return all(map(_same, before, after))
    return not isinstance(before, _Function) or before == after or before.written


def _plain(part: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(part).items():
        if not name.startswith("_") or isinstance(value, int | float | str):
            if _is_plain(value):
                yield name, _still(value)
            elif isinstance(value, partial) or (callable(value) and hasattr(value, "__qualname__")):
                yield name, _Function(value)


_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
"""Where PyTorch keeps what is to run before and after a module's forward."""


def _hooked(part: Any, path: str) -> dict[str, Any]:
    """The hooks of a part, by name: none of the whole module's, which run around its forward."""
    if not path:
        return {}
    return {
        kind[1:]: _Hooks(map(_Function, hooks.values()))
        for kind in _HOOKS
        if (hooks := getattr(part, kind))
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return len(value) < 64 and all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _still(value: Any) -> Any:
    """`value` as it is now: lists may be changed in place."""
    if isinstance(value, list):
        return [_still(v) for v in value]
    return tuple(map(_still, value)) if isinstance(value, tuple) else value


class Watch:
    """Looks, in a microsecond or so for each part, whether a module still is what was described.

    What is looked at are attributes, parts and their hooks, not what lies inside of objects.
    """

    def __init__(self, was: Described) -> None:
        self.was = was
        self._seen: weakref.WeakKeyDictionary[Any, list[tuple[Any, Any, Any]]] = (
            weakref.WeakKeyDictionary()
        )

    def change(self, module: Any) -> str:
        """In what `module` differs from the description; "" where in nothing."""
        try:
            if all(look(held) == values for look, held, values in self._seen[module]):
                return ""
        except (KeyError, RuntimeError, ValueError):  # not seen yet; gone; compared with a tensor
            pass
        reason = change(self.was, described(module))
        if not reason:
            self._seen[module] = list(_looks(module))
        return reason


def _looks(module: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(what reads it, from where, what it read) for all that is looked at in every call."""
    for part in module.modules():
        own = vars(part)
        look = itemgetter("training", *(name for name, _ in _plain(part)))
        yield look, own, _still(look(own))
        yield dict, part._modules, dict(part._modules)
        for hooks in (getattr(part, kind) for kind in _HOOKS if part is not module):
            yield dict, hooks, dict(hooks)
