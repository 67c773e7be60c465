"""The documents tell the truth: their Python runs, their command lines exist."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from epitaxy.chip import Chip, Level
from epitaxy.probe.store import save

CHIP = Chip(
    id="stand-in", name="Stand-in", vendor="none", kind="cpu", cores=4, vector_bytes=32,
    measured=True, peak_flops_per_s={"float32": 1e12},
    levels=(
        Level(name="L2", bytes=1 << 20, read_bytes_per_s=1e12, write_bytes_per_s=1e12),
        Level(name="DRAM", bytes=0, read_bytes_per_s=1e12, write_bytes_per_s=1e12),
    ),
)  # fmt: skip
"""Spares these tests a probe: no figure is looked at."""
ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path, language):
    """(words after the language, text) of each fenced block of a language."""
    for info, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        first, *rest = info.split() or [""]
        if first == language:
            yield rest, text


def with_python():
    return [path for path in FILES if any(blocks(path, "python"))]


def commands():
    """Every line of a document that calls epitaxy, as words."""
    found = []
    for path in FILES:
        for _, text in [*blocks(path, ""), *blocks(path, "sh"), *blocks(path, "console")]:
            for line in text.splitlines():
                line = line.removeprefix("$ ").split("#")[0].strip()
                found += [
                    (path.name, part.strip())
                    for part in re.split(r"\s\|\s(?=\w)", line)
                    if line.startswith("epitaxy ")
                ]
    return sorted(set(found))


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("path", with_python(), ids=lambda p: p.name)
def test_python_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    save(CHIP)
    space = {"__name__": "document"}
    for words, text in blocks(path, "python"):
        if "no-run" in words:
            ast.parse(text)
        else:
            exec(compile(text, str(path), "exec"), space)


def test_few_examples_are_not_run():
    skipped = [p.name for p in FILES for words, _ in blocks(p, "python") if "no-run" in words]
    assert len(skipped) <= 2, f"these are not run: {skipped}"


@pytest.mark.parametrize(("file", "line"), commands())
def test_command_lines_exist(file, line):
    from epitaxy.commands import command

    # A summary line describes after two blanks what the command does.
    words = shlex.split(re.split(r"\s{2,}", line.removeprefix("epitaxy").strip())[0])
    root = command() if not isinstance(command, typer.Typer) else typer.main.get_command(command)
    if words[0].startswith("-"):
        assert words[0] in {o for p in root.params for o in p.opts}
        return
    assert words[0] in root.commands, f"{file}: no command {words[0]}"
    found = root.commands[words[0]]
    while hasattr(found, "commands") and len(words) > 1 and words[1] in found.commands:
        words = words[1:]
        found = found.commands[words[0]]
    options = {o for p in found.params for o in (*p.opts, *p.secondary_opts)}
    used = {w.split("=")[0] for w in re.findall(r"--[\w-]+|(?<=\s)-\w\b", " ".join(words[1:]))}
    assert used <= options | {"--help"}, f"{file}: {line!r} uses {used - options}"


def test_the_check_of_commands_finds_some():
    assert len(commands()) > 10
