"""What several tests of the judge on this machine share."""

from __future__ import annotations

import contextlib
import zlib

import pytest
import torch
from brief import be_brief
from generous import GENEROUS

from epitaxy.machines.local import LocalMachine


def pytest_collectstart(collector):
    """What a file draws as it is read is the same in every run: rounding differs otherwise."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(zlib.crc32(collector.nodeid.encode()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """What a test and its fixtures draw is the same in every run, whatever ran before it."""
    torch.manual_seed(zlib.crc32(item.nodeid.encode()))


@pytest.fixture(scope="module")
def brief():
    """For a module or a test in which nothing turns on a time: few rounds, eager alone."""
    with pytest.MonkeyPatch.context() as patch:
        be_brief(patch.setattr)
        yield


@pytest.fixture(scope="session")
def machine_of(tmp_path_factory):
    """A context that makes a local machine with the GENEROUS chip, by its number of threads."""

    @contextlib.contextmanager
    def made(threads: int = 0):
        machine = LocalMachine(home=tmp_path_factory.mktemp("home"), threads=threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "chip", lambda: GENEROUS)
            yield machine
        machine.close()

    return made


@pytest.fixture
def device(monkeypatch):
    """(a worker's device that does what a script says, the script)"""
    from device_case import scripted

    return scripted(monkeypatch)
