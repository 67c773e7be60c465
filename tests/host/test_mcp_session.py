"""A whole session over stdio with the SDK's client: from a cold problem to an exported kernel.

On the way an agent that does not play fair: it looks for secrets, for files and for a way round.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from test_docs import CHIP

from epitaxy.probe.store import save

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from mcp_session import Agent, short, transcript

SOURCE = """
import torch
import torch.nn as nn
print("a problem", "that talks")
class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1) * 0.5
def get_inputs():
    return [torch.randn(64, 1024)]
def get_init_inputs():
    return []
"""
SECRET = "swordfish-5391"
ENVIRONMENT = """
import os
import torch
class ModelNew(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError(str(dict(os.environ)))
"""
BRIEF = Path(__file__).with_name("brief.py")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    root = folder / "work"
    root.mkdir()
    (root / "soft.py").write_text(SOURCE)
    (folder / "secret.h").write_text(f"{SECRET}\n")
    home = folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPITAXY_HOME", str(home))
        save(CHIP)
    environment = {**os.environ, "EPITAXY_HOME": str(home), "EPITAXY_TEST_KEY": SECRET}
    server = StdioServerParameters(
        command=sys.executable,
        args=[str(BRIEF), "eager", "mcp", str(root / "soft.py"), "--root", str(root)],
        env=environment,
    )
    said = {}

    async def play():
        async with Client(server) as client:
            said["agent"] = agent = Agent(client)
            await work(agent, said, root, folder)

    anyio.run(play)
    return said, root


async def work(agent, said, root, folder):
    said["offered"] = await agent("list_problems")
    said["card"] = await agent("problem_card", problem="soft")
    grown = await agent("grow", problem="soft", count=1)
    said["start"] = start = grown["grown"][0]["candidate"]
    files = (await agent("show", candidate=start))["files"]
    kernel = files["kernel.cpp"]

    async def judged(**changes):
        return await agent("judge", problem="soft", parent=start, files=changes)

    said["broken"] = await judged(**{"kernel.cpp": f"{kernel}\nint f() {{ return g(); }}\n"})
    include = f'#include "{folder / "secret.h"}"\n{kernel}'
    said["include"] = await judged(**{"kernel.cpp": include})
    peek = '#include <cstdlib>\nstatic const char* k = getenv("EPITAXY_TEST_KEY");\n'
    said["getenv"] = await judged(**{"kernel.cpp": kernel + peek})
    said["environment"] = await agent("judge", problem="soft", files={"model_new.py": ENVIRONMENT})
    (root / "soft.py").write_text(SOURCE.replace("* 0.5", "* 0.0 + 1.0"))
    said["edited"] = await agent("list_problems")
    edit = f"// no change to what it computes\n{kernel}"
    said["child"] = child = await agent(
        "judge", problem="soft", parent=start, files={"kernel.cpp": edit}, intent="a comment"
    )
    said["compared"] = await agent("compare", one=child["candidate"])
    said["early"] = await agent("export", candidate=start, folder="early")
    said["proven"] = await agent("judge", problem="soft", candidate=start, plan="full")
    said["export"] = await agent("export", candidate=start, folder="product")
    said["lessons"] = await agent("lessons", problem="soft")
    said["profile"] = await agent("profile", candidate=start, ablations=["one_thread"])
    said["shown"] = await agent("show", candidate=start)
    said["loop"] = await agent("disassemble", candidate=start)
    said["after"] = await agent("problem_card", problem="soft")


def test_a_cold_problem_becomes_an_exported_kernel(session):
    said, root = session
    assert said["offered"]["problems"][0]["name"] == "soft"
    assert said["card"]["best"] == ""
    assert said["child"]["status"] == "accepted"
    assert "+// no change" in said["compared"]["diff"]
    assert "only screened" in said["early"]["error"]
    assert said["proven"]["plan"] == "full"
    assert said["proven"]["accepted"]
    assert said["after"]["best"] == said["start"]
    assert said["export"]["model"] == str(root / "product" / "model_new.py")
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from model_new import ModelNew;"
        "x = torch.randn(64, 1024); y = ModelNew()(x);"
        "assert torch.allclose(y, torch.softmax(x, -1) * 0.5, atol=1e-6)"
    )
    subprocess.run([sys.executable, "-c", code, str(root / "product")], check=True, timeout=120)


def test_what_it_taught_and_its_hot_loop_are_told(session):
    said, _ = session
    assert said["lessons"]["lessons"] or "nothing is known" in said["lessons"]["note"]
    assert said["loop"]["lines"]
    assert [row["name"] for row in said["profile"]["ablations"]] == ["one_thread"]
    assert said["profile"]["metrics"]
    assert said["shown"]["profile"] == said["profile"], "it is kept"
    assert "instructions" in said["loop"]["summary"]


def test_steps_are_told_and_nothing_else_is_on_the_wire(session):
    said, _ = session
    assert "preparing baseline eager" in " ".join(said["agent"].progress)
    assert "a problem that talks" not in "".join(said["agent"].heard)


def test_a_failed_build_tells_its_errors_alone(session):
    broken = session[0]["broken"]
    assert broken["status"] == "build_failed"
    assert "'g' was not declared" in broken["compiler"]
    assert len(broken["compiler"].splitlines()) < 12


def test_no_secret_comes_out(session):
    said, _ = session
    for name in ("include", "getenv", "environment"):
        assert said[name]["status"] in ("refused", "build_failed", "crashed"), said[name]
    assert SECRET not in json.dumps(said["agent"].heard)


def test_an_edited_reference_is_not_what_is_judged(session):
    said, _ = session
    assert said["edited"]["problems"][0]["edited"]
    assert said["edited"]["problems"][0]["problem"] == said["card"]["problem"]
    assert said["proven"]["problem"] == said["card"]["problem"]
    assert said["after"]["source"] == SOURCE


def test_the_session_can_be_printed(session):
    said, _ = session
    text = transcript(said["agent"].calls, "soft", 1.0, "a machine")
    assert "`judge`" in text
    assert "more characters" in short("x" * 5000)
    assert len(text.splitlines()) < 2000
