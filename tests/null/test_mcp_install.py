"""Setting up clients: what is written, what is kept, and what is refused."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from epitaxy.cli import DONE, UNUSABLE, main
from epitaxy.serve.install import CLIENTS, Server, install_client, pack


@pytest.fixture
def project(tmp_path):
    (tmp_path / "model.py").write_text("x = 1\n")
    return tmp_path


def run(project, client, *more):
    file = str(project / "model.py")
    return main(["mcp", file, "--root", str(project), "--install", client, *more])


def snapshot(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("client", "file"), [("claude-code", ".mcp.json"), ("cursor", ".cursor/mcp.json")]
)
def test_a_client_with_json(project, capsys, client, file):
    assert run(project, client) == DONE
    assert f"wrote {project / file}" in capsys.readouterr().out
    server = json.loads((project / file).read_text())["mcpServers"]["epitaxy"]
    assert server["args"][-4:] == ["mcp", str(project / "model.py"), "--root", str(project)]


def test_codex(project, capsys):
    assert run(project, "codex") == DONE
    data = tomllib.loads((project / ".codex/config.toml").read_text())
    assert data["mcp_servers"]["epitaxy"]["args"][-1] == str(project)
    assert "epitaxy: begin" in (project / "AGENTS.md").read_text()


def test_codex_reads_any_path(tmp_path):
    root = tmp_path / "kristall \U0001f9ca"
    root.mkdir()
    install_client("codex", Server((), root))
    data = tomllib.loads((root / ".codex/config.toml").read_text(encoding="utf-8"))
    assert data["mcp_servers"]["epitaxy"]["args"][-1] == str(root)


@pytest.mark.parametrize("client", CLIENTS)
def test_twice_is_once_and_printing_writes_nothing(project, capsys, client):
    before = snapshot(project)
    assert run(project, client, "--print") == DONE
    assert "would write" in capsys.readouterr().out
    assert snapshot(project) == before
    run(project, client)
    once = snapshot(project)
    assert len(once) > len(before)
    run(project, client)
    assert snapshot(project) == once
    assert capsys.readouterr().out.count("unchanged:") == len(CLIENTS[client])


def test_what_is_there_stays(project):
    (project / ".mcp.json").write_text('{"mcpServers": {"other": {"command": "x"}}, "more": [1]}')
    (project / "AGENTS.md").write_text("# Ours\n\nBe kind.\n")
    (project / ".codex").mkdir()
    (project / ".codex/config.toml").write_text(
        '# mine\nmodel = "m"  # kept\n\n[mcp_servers.other]\ncommand = "x"\n\n[tools]\na = 1\n'
    )
    for client in CLIENTS:
        assert run(project, client) == DONE
        assert run(project, client) == DONE
    data = json.loads((project / ".mcp.json").read_text())
    assert data["mcpServers"]["other"] == {"command": "x"}
    assert data["more"] == [1]
    text = (project / ".codex/config.toml").read_text()
    assert text.startswith('# mine\nmodel = "m"  # kept\n')
    assert {"other", "epitaxy"} == set(tomllib.loads(text)["mcp_servers"])
    agents = (project / "AGENTS.md").read_text()
    assert agents.startswith("# Ours\n\nBe kind.\n")
    assert agents.count("epitaxy: begin") == 1


def test_settings_of_ones_own_survive_an_update(project):
    run(project, "claude-code")
    path = project / ".mcp.json"
    data = json.loads(path.read_text())
    data["mcpServers"]["epitaxy"]["env"] = {"OMP_NUM_THREADS": "2"}
    path.write_text(json.dumps(data))
    install_client("claude-code", Server((), project))
    server = json.loads(path.read_text())["mcpServers"]["epitaxy"]
    assert server["env"] == {"OMP_NUM_THREADS": "2"}
    assert server["args"][-2:] == ["--root", str(project)]


@pytest.mark.parametrize(
    ("client", "file", "text", "says"),
    [
        ("claude-code", ".mcp.json", "{broken", "is no JSON object"),
        ("claude-code", ".mcp.json", "[1]", "is no JSON object"),
        ("cursor", ".cursor/mcp.json", '{"mcpServers": {"epitaxy": {"command": "y"}}}', "another"),
        ("cursor", ".cursor/mcp.json", '{"mcpServers": {"epitaxy": "y"}}', "another"),
        ("cursor", ".cursor/mcp.json", '{"mcpServers": {"epitaxy": {"args": 5}}}', "another"),
        ("codex", ".codex/config.toml", "a = [", "is no TOML"),
        ("codex", ".codex/config.toml", '[mcp_servers]\nepitaxy = "y"\n', "another"),
        ("codex", ".codex/config.toml", "mcp_servers = {}\n", "no place for another table"),
        (
            "codex", ".codex/config.toml",
            '[mcp_servers.epitaxy]\ncommand = "epitaxy"\nstartup_timeout_sec = 9\n',
            "further settings",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_left_alone(project, capsys, client, file, text, says):
    (project / file).parent.mkdir(exist_ok=True)
    (project / file).write_text(text)
    before = snapshot(project)
    assert run(project, client) == UNUSABLE
    error = capsys.readouterr().err
    assert says in error
    assert str(project / file) in error
    assert len(error.strip().splitlines()) == 1 or "add by hand" in error
    assert snapshot(project) == before


def test_unknown_names_are_one_line(project, capsys):
    assert run(project, "claude") == UNUSABLE
    assert "did you mean 'claude-code'?" in capsys.readouterr().err
    assert main(["mcp", "nowhere.py", "--install", "codex"]) == UNUSABLE
    assert "no such file: nowhere.py" in capsys.readouterr().err
    assert main(["mcp", "--print"]) == UNUSABLE
    assert "--print goes with --install" in capsys.readouterr().err


def test_the_pack_names_tools_and_commands_that_exist():
    """Both texts are shown to agents: what they name must be there."""
    from epitaxy.commands import command
    from epitaxy.serve.tools import LONG, READ

    known = {*LONG, *READ, "job_result", "job_status"}
    commands = set(command().commands)
    for text in (pack("SKILL.md"), pack("AGENTS.md")):
        for name in re.findall(r"^epitaxy (\w+)|`epitaxy (\w+)", text, re.MULTILINE):
            assert (name[0] or name[1]) in commands
    named = re.findall(r"\| `(\w+)`", pack("SKILL.md"))
    assert len(named) >= 7
    assert set(named) <= known
    assert pack("SKILL.md").startswith("---\nname: epitaxy\ndescription: ")
