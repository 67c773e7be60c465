"""A session over MCP, recorded: from a cold problem to an exported kernel.

    python benchmarks/mcp_session.py [--problem FILE] [--out docs/mcp-session.md]

The SDK's own client starts `epitaxy mcp` as a process and speaks to it over stdio, as a coding
agent does. What an agent would decide is decided here by few rules, so that anyone can repeat it:
take the grower's best, sweep one decision, make a mistake, mend it, prove the best, export it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

LONGEST, MOST, KEYS = 700, 5, 40
ROOT = Path(__file__).parents[1]


class Agent:
    """Calls tools, waits for their jobs, and keeps all that came back."""

    def __init__(self, client: Any, after: Callable[[Agent], None] = lambda _: None) -> None:
        self.client, self.after = client, after
        self.heard: list[str] = []
        self.progress: list[str] = []
        self.calls: list[dict[str, Any]] = []

    async def __call__(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """The tool's result; {"error": text} where it refuses."""
        start_s, told = time.perf_counter(), len(self.progress)
        answer, jobs = await self._answer(tool, arguments)
        print(f"{time.perf_counter() - start_s:6.1f} s {tool}", file=sys.stderr, flush=True)
        self.calls.append(
            {
                "tool": tool,
                "arguments": arguments,
                "answer": answer,
                "asked_again": jobs,
                "steps": self.progress[told:],
                "seconds": time.perf_counter() - start_s,
            }
        )
        self.after(self)
        return answer

    async def _answer(self, tool: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
        got = await self._call(tool, arguments)
        jobs = 0
        while not got.is_error and got.structured_content.get("done") is False:
            jobs += 1
            got = await self._call("job_result", {"job_id": got.structured_content["job_id"]})
        if got.is_error:
            return {"error": got.content[0].text}, jobs
        data = got.structured_content
        return data.get("result", data), jobs

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Any:
        async def step(done: float, total: float | None, message: str | None) -> None:
            if message and message not in self.progress[-1:]:
                self.progress.append(message)

        got = await self.client.call_tool(tool, arguments, progress_callback=step)
        self.heard.append(got.model_dump_json())
        return got


async def play(agent: Agent, problem: str) -> None:
    """The session: the same moves whatever the answers are, on what they name."""
    await agent("list_problems")
    await agent("problem_card", problem=problem)
    await agent("read_guide")
    grown = await agent("grow", problem=problem, count=2)
    best = max(grown["grown"], key=_speed)
    region, values = next((k, v) for k, v in grown["decisions"].items() if k.endswith(".unroll"))
    other = [int(v) for v in values.split(", ")][-1]
    swept = await agent("grow", problem=problem, genome=best["genome"], vary={region: [other]})
    best = max([best, *swept.get("grown", ())], key=_speed)
    id, its = best["candidate"], {"problem": problem, "parent": best["candidate"]}
    kernel = (await agent("show", candidate=id))["files"]["kernel.cpp"]
    wrong = {"kernel.cpp": kernel.replace("int64_t", "int46_t", 1)}
    await agent("judge", **its, files=wrong, intent="a first edit by hand, with a mistake in it")
    mended = {"kernel.cpp": f"// edited by hand from here\n{kernel}"}
    child = await agent("judge", **its, files=mended, intent="the mistake mended")
    await agent("compare", one=child["candidate"])
    await agent("disassemble", candidate=id)
    await agent("export", candidate=id, folder="product")
    await agent("judge", problem=problem, candidate=id, plan="full")
    await agent("export", candidate=id, folder="product")
    await agent("search", problem=problem)
    await agent("lessons", problem=problem, most=3)
    await agent("profile", candidate=id)


def _speed(grown: dict[str, Any]) -> float:
    return float((grown["verdict"] or {}).get("speedup") or 0.0)


def short(value: Any) -> Any:
    """An answer as it is printed: long texts and lists cut, and said so."""
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:LONGEST]} ... ({len(value) - LONGEST} more characters)"
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        cut = [short(v) for v in value[:MOST]]
        return [*cut, f"... {len(value) - MOST} more"] if len(value) > MOST else cut
    if isinstance(value, dict):
        kept = {k: short(v) for k, v in list(value.items())[:KEYS] if v not in ("", [], {}, None)}
        return kept | ({"...": f"{len(value) - KEYS} more"} if len(value) > KEYS else {})
    return value


def transcript(calls: list[dict[str, Any]], name: str, start_s: float, machine: str) -> str:
    """The session as Markdown."""
    total_s = sum(c["seconds"] for c in calls)
    lines = [
        f"# A session over MCP: {name}",
        "",
        f"Recorded on {time.strftime('%Y-%m-%d')} by `python benchmarks/mcp_session.py` on "
        f"{machine}: the SDK's client, `epitaxy mcp` as its process over stdio, an empty ledger, "
        f"{len(calls)} calls in {total_s:.0f} s. The server answered {start_s:.1f} s after its "
        "start. The moves are scripted, the answers are real; long texts are cut, and say so. "
        f"Its load was {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors at the end: the "
        "session is what this shows, not speed.",
    ]
    for number, call in enumerate(calls, 1):
        again = f", job_result asked {call['asked_again']} times" if call["asked_again"] else ""
        lines += ["", f"## {number}. `{call['tool']}` ({call['seconds']:.1f} s{again})", ""]
        lines += ["```json", json.dumps(short(call["arguments"]), indent=1), "```"]
        if call["steps"]:
            lines += ["", "Steps told: " + "; ".join(call["steps"][-6:]) + "."]
        lines += ["", "```json", json.dumps(short(call["answer"]), indent=1), "```"]
    return "\n".join([*lines, ""])


async def session(problem: Path, home: Path, out: Path, machine: str) -> None:
    """Play on a copy of `problem` in a new folder; the transcript in `out` grows call by call."""
    with tempfile.TemporaryDirectory(prefix="epitaxy-session-") as folder:
        copy = Path(shutil.copy(problem, folder))
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "epitaxy.cli", "mcp", str(copy), "--root", folder],
            env={**os.environ, "EPITAXY_HOME": str(home)},
        )
        begin_s = time.perf_counter()
        async with Client(server) as client:
            await client.list_tools()
            start_s = time.perf_counter() - begin_s

            def write(agent: Agent) -> None:
                text = transcript(agent.calls, copy.stem, start_s, machine)
                out.write_text(text.replace(folder, "/project"), encoding="utf-8")

            await play(Agent(client, write), copy.stem)


def main(argv: list[str] | None = None) -> None:
    """Record a session."""
    from epitaxy.ledger import Ledger
    from epitaxy.plugin import plugins

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", type=Path, default=ROOT / "benchmarks" / "mcp_problem.py")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "mcp-session.md")
    chosen = parser.parse_args(argv)
    machine = plugins("machines").get("local").fingerprint()["cpu"]
    measured = Ledger.default_path().parent / "chips"
    with tempfile.TemporaryDirectory(prefix="epitaxy-home-") as home:
        if measured.is_dir():  # an empty ledger, but this machine as it was measured before
            shutil.copytree(measured, Path(home, "chips"))
        anyio.run(session, chosen.problem, Path(home), chosen.out, machine)
    print(chosen.out)


if __name__ == "__main__":
    main()
