"""Plugins by name: built in, installed, or by path; mistakes are one-line errors."""

from __future__ import annotations

import importlib.metadata

import pytest

from epitaxy.errors import PluginError, UnknownName
from epitaxy.plugin import FOLDERS, Plugins, plugins
from epitaxy.toolchains.null import Null


class NeedsMore:
    """Cannot be made without an argument."""

    def __init__(self, what: str) -> None:
        self.what = what


def install(monkeypatch, group: str, name: str, value: str) -> None:
    """As if a package with that entry point were installed."""
    real = importlib.metadata.entry_points
    point = importlib.metadata.EntryPoint(name=name, group=group, value=value)

    def points(**filters):
        found = list(real(**filters))
        return [*found, point] if filters.get("group") == group else found

    monkeypatch.setattr(importlib.metadata, "entry_points", points)


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("toolchains", {"cpp", "null"}),
        ("machines", {"local", "replay"}),
        ("proposers", {"grower", "scripted"}),
        ("checks", {"sources"}),
        ("references", {"torch_module"}),
        ("baselines", {"eager", "compile"}),
    ],
)
def test_what_ships_is_known(folder, names):
    known = plugins(folder).names()
    assert names <= set(known)
    assert known == sorted(known)
    assert not [n for n in known if n.startswith("_")]


@pytest.mark.parametrize("folder", ["toolchains", "machines", "checks", "proposers"])
def test_names_and_plugins_agree(folder):
    for name in plugins(folder).names():
        assert plugins(folder).get(name).name == name


def test_a_plugin_is_made_once():
    assert plugins("toolchains").get("null") is plugins("toolchains").get("null")


@pytest.mark.parametrize(
    ("folder", "wrong", "nearest"),
    [
        ("toolchains", "ccp", "cpp"),
        ("machines", "Lokal", "local"),
        ("proposers", "growr", "grower"),
    ],
)
def test_the_nearest_name_is_proposed(folder, wrong, nearest):
    with pytest.raises(UnknownName) as caught:
        plugins(folder).get(wrong)
    assert wrong in caught.value.message
    assert nearest in caught.value.mend
    assert "\n" not in str(caught.value)


def test_a_far_name_lists_the_known_ones():
    with pytest.raises(UnknownName, match="unknown toolchain") as caught:
        plugins("toolchains").get("xyzzy")
    assert all(name in caught.value.mend for name in ("cpp", "null"))


def test_a_class_by_its_path():
    assert isinstance(Plugins("toolchains").get("epitaxy.toolchains.null:Null"), Null)


@pytest.mark.parametrize(
    "path", ["no_such_module:Thing", "epitaxy.toolchains.null:Nil", f"{__name__}:NeedsMore", ":"]
)
def test_a_bad_path_is_a_plugin_error(path):
    with pytest.raises(PluginError, match="cannot be loaded") as caught:
        Plugins("toolchains").get(path)
    assert path in caught.value.mend


def test_an_installed_plugin_is_found(monkeypatch):
    install(monkeypatch, "epitaxy.toolchains", "mine", "epitaxy.toolchains.null:Null")
    known = Plugins("toolchains")
    assert "mine" in known.names()
    assert isinstance(known.get("mine"), Null)


def test_the_same_name_twice_is_an_error(monkeypatch):
    install(monkeypatch, "epitaxy.toolchains", "cpp", "their.package:Cpp")
    with pytest.raises(PluginError, match="'cpp'") as caught:
        Plugins("toolchains")
    assert "their.package:Cpp" in caught.value.message
    assert caught.value.mend


def test_an_unknown_kind_is_an_error():
    with pytest.raises(PluginError) as caught:
        Plugins("gadgets")
    assert all(folder in caught.value.mend for folder in FOLDERS)
