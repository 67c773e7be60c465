"""Somebody else's command in the comparison with and without the harness: what is kept of it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import harness
import harness_command
from harness_arms import ByCommand
from harness_command import work

KEY = "sk-ant-0123456789abcdef"


def said(command, place, text="", limit_s=20.0, **environment):
    return work(command, place, {**os.environ, **environment}, text, limit_s)


class TestKeys:
    def test_of_a_command_only_its_name_and_digest_are_published(self, tmp_path):
        command = f"ANTHROPIC_API_KEY={KEY} claude -p"
        runner = ByCommand(command, "claude")
        assert runner.name.startswith("claude (command ")
        assert KEY not in runner.name
        assert ByCommand(command + " ", "claude").name != runner.name

    def test_a_command_needs_a_name(self, tmp_path, capsys):
        argv = ["--agent", f"API_KEY={KEY} agent", "--out", str(tmp_path / "out")]
        assert harness.main(argv) == 2
        assert "--name" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_keys_are_cut_out_of_what_is_said(self, tmp_path):
        other = "0123456789-other"
        _, text = said(f"MY_API_KEY='{KEY}' env; cat", tmp_path, "the task", SOME_TOKEN=other)
        assert "MY_API_KEY=[key]" in text
        assert "SOME_TOKEN=[key]" in text
        assert KEY not in text
        assert other not in text
        assert "the task" in text


def test_little_is_kept_of_much_with_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(harness_command, "KEPT_BYTES", 1000)
    ended, text = said("echo first; yes | head -c 3000000; echo last", tmp_path)
    assert ended == "exit code 0"
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert "bytes left out" in text
    assert len(text) < 200_000


def test_what_leaves_its_group_and_its_parents_is_ended(tmp_path):
    """Also where the command itself ends well, and holds on to its output."""
    file = tmp_path / "beats"
    beat = f"while true; do echo x >> {file}; sleep 0.05; done"
    start_s = time.monotonic()
    ended, text = said(f"setsid nohup sh -c '{beat}' & sleep 0.3; echo done", tmp_path)
    assert ended == "exit code 0"
    assert text.startswith("done\n")  # a shell may still say what became of its child
    assert time.monotonic() - start_s < 10
    size = file.stat().st_size
    assert size
    time.sleep(0.3)
    assert file.stat().st_size == size


@pytest.mark.parametrize("command", ["sleep 60", "trap '' TERM; sleep 60; sleep 60"])
def test_a_command_that_does_not_end_is_ended(command, tmp_path, monkeypatch):
    monkeypatch.setattr(harness_command, "KILL_S", 0.3)
    start_s = time.monotonic()
    assert said(command, tmp_path, "x" * 1_000_000, limit_s=0.2)[0] == "the time was over"
    assert time.monotonic() - start_s < 10
