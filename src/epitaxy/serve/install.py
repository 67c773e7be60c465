"""Configuration of clients: what each reads from the project's folder, merged into what is there.

    claude-code   .mcp.json (mcpServers), .claude/skills/epitaxy/SKILL.md
    codex         .codex/config.toml (mcp_servers), AGENTS.md; read in projects that Codex trusts
    cursor        .cursor/mcp.json (mcpServers), AGENTS.md

Nothing of others is changed: a file that cannot be read, or a server called `epitaxy` that is not
ours, ends the installation before anything is written.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from epitaxy.errors import BadEnvironment, BadInput, UnknownName

NAME = "epitaxy"
BEGIN, END = "<!-- epitaxy: begin -->", "<!-- epitaxy: end -->"
_SECTION = re.compile(r"^\[mcp_servers\.epitaxy\][^\n]*\n(?:(?!\[).*\n?)*", re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """How the server is to be started: as on its command line."""

    files: Sequence[str]
    root: Path
    any_problem: bool = False
    chip: str = "local"
    ledger: Path | None = None
    budget: str = ""

    @property
    def command(self) -> list[str]:
        """The whole command, with absolute paths: a client's PATH and folder may be others."""
        for file in self.files:
            if not Path(file).is_file():
                raise BadInput(f"no such file: {file}", "name the problems' files")
        script = Path(sys.executable).parent / NAME
        start = [str(script)] if script.exists() else [sys.executable, "-P", "-m", "epitaxy.cli"]
        words = [*start, "mcp", *(str(Path(f).resolve()) for f in self.files)]
        words += ["--root", str(self.root.resolve())]
        words += ["--any-problem"] if self.any_problem else []
        words += ["--chip", self.chip] if self.chip != "local" else []
        words += ["--budget", self.budget] if self.budget else []
        return words + (["--ledger", str(self.ledger.resolve())] if self.ledger else [])


def install_client(client: str, server: Server, only_print: bool = False) -> list[str]:
    """Write a client's files below the server's root; lines that say what was (or would be) done.

    Raises UnknownName, BadInput where a file of others stands in the way, and BadEnvironment.
    """
    if client not in CLIENTS:
        raise UnknownName.of("client", client, CLIENTS)
    root = server.root.resolve()
    if not root.is_dir():
        raise BadInput(f"{root} is no folder", "name the project's folder with --root")
    made = [(root / name, _merged(root / name, write, server)) for name, write in CLIENTS[client]]
    said = []
    for path, text in made:
        changed = text != _present(path)
        if changed and not only_print:
            _write(path, text)
        word = "would write" if only_print else "wrote"
        said += [f"{word if changed else 'unchanged:'} {path}"]
        said += [text] if only_print and changed else []
    return said


def _merged(path: Path, write: Write, server: Server) -> str:
    try:
        return write(_present(path), server)
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", error.mend) from None


def _present(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"it cannot be read: {error}", "mend the file, or move it") from None


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise BadEnvironment(f"cannot write {path}: {error.strerror}", "check its folder") from None


def _json(before: str, server: Server) -> str:
    """The servers' file of Claude Code and Cursor."""
    try:
        data = json.loads(before or "{}")
        servers = data.setdefault("mcpServers", {})
        old = servers.get(NAME, {})
    except (ValueError, AttributeError):
        raise BadInput("it is no JSON object", "mend the file, or move it") from None
    _ours(old)
    command, *args = server.command
    servers[NAME] = {**old, "command": command, "args": args}
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _toml(before: str, server: Server) -> str:
    """Codex's file: other text stays to the letter."""
    command, *args = server.command
    told = json.dumps(command, ensure_ascii=False), json.dumps(args, ensure_ascii=False)
    section = f"[mcp_servers.{NAME}]\ncommand = {told[0]}\nargs = {told[1]}"
    hand = f"add by hand:\n{section}"
    try:
        known = tomllib.loads(before)
        old = known.get("mcp_servers", {}).get(NAME, {})
    except (tomllib.TOMLDecodeError, AttributeError):
        raise BadInput("it is no TOML", "mend the file, or move it") from None
    _ours(old)
    kept = _SECTION.sub("", before).rstrip()
    text = f"{kept}\n\n{section}\n" if kept else f"{section}\n"
    try:
        after = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise BadInput("it has no place for another table", hand) from None
    mine = {"command": command, "args": args}
    whole = {**known, "mcp_servers": {**known.get("mcp_servers", {}), NAME: mine}}
    if after != whole or set(old) - {"command", "args"}:
        raise BadInput("its server epitaxy has further settings", hand)
    return text


def _ours(old: Any) -> None:
    """Raise BadInput when a server of our name is somebody else's."""
    given = old if isinstance(old, dict) else {"command": ""}
    args = given.get("args", ())
    words = [given.get("command", ""), *(args if isinstance(args, list | tuple) else ())]
    if given and not any(NAME in str(word) for word in words):
        raise BadInput("it has another server called epitaxy", "rename that one first")


def _skill(before: str, server: Server) -> str:
    """The skill is ours alone: it is brought up to date."""
    return pack("SKILL.md")


def _agents(before: str, server: Server) -> str:
    """A marked section of AGENTS.md; what stands around it stays."""
    mine = f"{BEGIN}\n{pack('AGENTS.md').strip()}\n{END}\n"
    start, end = before.find(BEGIN), before.find(END)
    if start >= 0 and end > start:
        return before[:start] + mine + before[end + len(END) :].removeprefix("\n")
    return f"{before.rstrip()}\n\n{mine}" if before.strip() else mine


def pack(name: str) -> str:
    """A text of the pack: SKILL.md or AGENTS.md."""
    return (resources.files("epitaxy") / "serve" / "pack" / name).read_text(encoding="utf-8")


Write = Callable[[str, Server], str]
CLIENTS: dict[str, tuple[tuple[str, Write], ...]] = {
    "claude-code": ((".mcp.json", _json), (".claude/skills/epitaxy/SKILL.md", _skill)),
    "codex": ((".codex/config.toml", _toml), ("AGENTS.md", _agents)),
    "cursor": ((".cursor/mcp.json", _json), ("AGENTS.md", _agents)),
}
