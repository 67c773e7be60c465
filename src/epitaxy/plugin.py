"""Plugins by name: a built-in file, an installed entry point, or "package.module:Class".

A built-in plugin is a module in one of the package's folders (`toolchains/cpp.py`) that has a
`plugin()` function returning the object. Others install an entry point in the group
`epitaxy.<folder>`. The same name twice is an error, never an override.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from functools import cache
from typing import Any

from epitaxy.errors import EpitaxyError, PluginError, UnknownName

FOLDERS = (
    "toolchains", "machines", "checks", "proposers", "references", "baselines", "readers",
)  # fmt: skip
_SINGULAR = {f: f.removesuffix("s") for f in FOLDERS}


class Plugins:
    """All plugins of one kind; modules are imported only when asked for."""

    def __init__(self, folder: str) -> None:
        if folder not in FOLDERS:
            raise PluginError(f"there is no plugin kind {folder!r}", f"kinds: {', '.join(FOLDERS)}")
        self.folder = folder
        self._made: dict[str, Any] = {}
        self._sources = _sources(folder)

    def names(self) -> list[str]:
        """Every known name, sorted."""
        return sorted(self._sources)

    def get(self, name: str) -> Any:
        """The plugin called `name`, made once. Raises UnknownName or PluginError."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        path = self._sources.get(name, name if ":" in name else "")
        if not path:
            raise UnknownName.of(_SINGULAR[self.folder], name, self.names())
        module, _, attribute = path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)()
        except EpitaxyError:
            raise
        except Exception as error:
            raise PluginError(
                f"{_SINGULAR[self.folder]} {name!r} cannot be loaded: {error!r}",
                f"check {path}",
            ) from error


@cache
def plugins(folder: str) -> Plugins:
    """The plugins of one folder: `plugins("toolchains").get("cpp")`."""
    return Plugins(folder)


def _sources(folder: str) -> dict[str, str]:
    package = importlib.import_module(f"epitaxy.{folder}")
    found = {
        m.name: f"{package.__name__}.{m.name}:plugin"
        for m in pkgutil.iter_modules(package.__path__)
        if not m.name.startswith("_")
    }
    for point in importlib.metadata.entry_points(group=f"epitaxy.{folder}"):
        if point.name in found:
            raise PluginError(
                f"two {folder} are called {point.name!r}: {found[point.name]} and {point.value}",
                "uninstall or rename one",
            )
        found[point.name] = point.value
    return found
