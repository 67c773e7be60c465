"""--condition and --threads: what they set, and what is refused."""

from __future__ import annotations

import os

import pytest

from epitaxy.commands.condition import apply
from epitaxy.errors import BadInput, UnknownName
from epitaxy.machines.local import LocalMachine
from epitaxy.machines.replay import ReplayMachine

CORES = len(os.sched_getaffinity(0))


def test_they_are_set_on_the_machine_and_part_of_its_fingerprint(tmp_path):
    machine = LocalMachine(home=tmp_path)
    usual = machine.fingerprint()
    assert apply(machine, "warm", 0).fingerprint() == usual
    assert not {"condition", "threads"} & set(usual)
    cold = apply(machine, "cold", 1).fingerprint()
    assert (cold["condition"], cold["threads"]) == ("cold", "1")
    assert apply(machine, "warm", 0).fingerprint() == usual


def test_a_condition_that_is_none_is_refused(tmp_path):
    with pytest.raises(UnknownName, match="condition 'cool'") as caught:
        apply(LocalMachine(home=tmp_path), "cool", 0)
    assert "cold" in caught.value.mend


@pytest.mark.parametrize("threads", [-1, CORES + 1])
def test_threads_must_have_cores(tmp_path, threads):
    with pytest.raises(BadInput, match=f"{threads} threads on {CORES} cores"):
        apply(LocalMachine(home=tmp_path), "warm", threads)


def test_a_machine_without_the_choice_says_so():
    assert apply(ReplayMachine(), "warm", 0).name == "replay"
    with pytest.raises(BadInput, match="has no condition"):
        apply(ReplayMachine(), "cold", 0)


def test_the_machine_accounts_for_its_processors(tmp_path):
    machine = LocalMachine(home=tmp_path)
    before = machine.activity()
    if before is None:
        pytest.skip("this kernel lists no processors")
    sum(range(3_000_000))
    stretch = machine.activity().since(before)
    assert stretch.own_s > 0
    assert stretch.cores == CORES
    assert stretch.wall_s > 0
