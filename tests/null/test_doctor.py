"""`epitaxy doctor`: it names what is in the way, and its exit code says whether anything is."""

import json
import os
import subprocess
import sys

import pytest

from epitaxy.cli import DONE, UNUSABLE


def rows(home):
    """What it finds with that home, by name; a new process, as a user has it."""
    done = subprocess.run(
        [sys.executable, "-m", "epitaxy.cli", "doctor", "--json"], capture_output=True, text=True,
        env={**os.environ, "EPITAXY_HOME": str(home)}, timeout=120, check=False,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert done.returncode == (DONE if document["usable"] else UNUSABLE)
    assert all(row["mend"] for row in document["rows"] if not row["ok"])
    return {row["name"]: row for row in document["rows"]}


def test_it_looks_at_the_folder_for_builds(tmp_path):
    found = rows(tmp_path / "new")
    assert found["home"]["ok"]
    assert found["home"]["detail"].startswith(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists(), "looking leaves nothing behind"


@pytest.mark.parametrize("name", ["my home", "a:b"])
def test_a_home_that_baselines_cannot_use(tmp_path, name):
    row = rows(tmp_path / name)["home"]
    assert not row["ok"]
    assert row["needed"]
    assert "space or colon" in row["detail"]


def test_a_home_that_cannot_be_written():
    found = rows("/proc/nothing")
    assert not found["home"]["ok"]
    assert found["home"]["mend"] == "set EPITAXY_HOME to a writable folder"
    assert not found["ledger"]["ok"]
