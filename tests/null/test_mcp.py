"""The MCP server in memory: every tool, its bad input, and what an agent must not reach."""

from __future__ import annotations

import json
import threading

import anyio
import fake_records
import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client
from mcp_place import PROBLEM, Place
from test_study import FakeJudge

from epitaxy.desk import Desk
from epitaxy.errors import BadInput, UnknownName
from epitaxy.ledger import Ledger
from epitaxy.problem import Policy
from epitaxy.serve.server import make
from epitaxy.serve.tools import Tools

FIRST, SECOND = (fake_records.candidate(PROBLEM, step) for step in (1, 2))
FILES = {"kernel.cpp": "int f() { return 1; }\n", "forward.py": "def forward(self, x): ...\n"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One server with one open client for all tests: starting one costs half a second."""
    made = Place(tmp_path_factory.mktemp("mcp"))
    judges = {}

    def opened(desk):
        key = desk.machine_digest
        return judges.setdefault(key, FakeJudge(key, {SECOND.digest: 2.5}))

    with pytest.MonkeyPatch.context() as patch, start_blocking_portal() as portal:
        patch.setattr(Desk, "open_judge", opened)
        server, jobs = make(made.tools)
        with portal.wrap_async_context_manager(Client(server)) as client:
            made.portal, made.client = portal, client
            yield made
        jobs.close()
        assert jobs.wait(20)
    made.tools.close()


def session(place, work):
    """What `work(client)` gives."""
    return place.portal.call(work, place.client)


def call(place, tool, /, **arguments):
    """(is_error, what it answers): the result of a finished job, or the error's text."""

    async def work(client):
        got = await client.call_tool(tool, arguments)
        if got.is_error:
            return True, got.content[0].text
        data = got.structured_content
        return False, data["result"] if "job_id" in data and "result" in data else data

    return session(place, work)


def recorded(place, *candidates):
    for it in candidates:
        with Ledger(place.path) as ledger:
            ledger.add_candidate(it)
        failed, answer = call(place, "judge", problem="softmax", candidate=it.id)
        assert not failed, answer
    return answer


def test_every_tool_says_what_it_takes_and_answers(place):
    listed = session(place, lambda client: client.list_tools()).tools
    names = {tool.name for tool in listed}
    assert {"problem_card", "judge", "grow", "compare", "search", "export", "job_result"} <= names
    for tool in listed:
        assert tool.description
        assert tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description") or tool.name.startswith("job_"), (tool.name, name)


def test_no_tool_takes_a_policy_a_tolerance_trust_or_an_environment(place):
    listed = session(place, lambda client: client.list_tools()).tools
    taken = {name for tool in listed for name in tool.input_schema["properties"]}
    words = ("trust", "policy", "precision", "toler", "env", "error", "seed", "guard", "without")
    assert not [name for name in taken for word in words if word in name]


@pytest.mark.parametrize("name", ["trust", "precision", "error_ratio", "environment", "without"])
def test_an_option_that_does_not_exist_is_said(place, name):
    failed, text = call(place, "judge", problem="softmax", files=FILES, **{name: "x"})
    assert failed
    assert text.startswith(f"judge has no argument '{name}' (it takes problem, files")


def test_experiments_are_listed_and_recipes_read(place):
    failed, answer = call(place, "explore")
    assert not failed
    assert {"gather", "false-sharing"} <= {e["name"] for e in answer["catalogue"]}
    failed, text = call(place, "explore", recipe="name = 3")
    assert failed
    assert "[a] is missing" in text
    assert "did you mean 'gather'?" in call(place, "explore", name="gathers")[1]


def test_judging_comparing_and_searching(place):
    failed, first = call(place, "judge", problem="softmax", files=FILES, intent="a try")
    assert not failed, first
    assert (first["status"], first["speedup"], first["known"]) == ("accepted", 1.5, False)
    edit = {"kernel.cpp": "int f() { return 2; }\n"}
    child = call(place, "judge", problem=PROBLEM.id, files=edit, parent=first["candidate"])[1]
    shown = call(place, "show", candidate=child["candidate"])[1]
    assert shown["files"]["forward.py"] == FILES["forward.py"]
    assert shown["proposer"] == "mcp"
    assert shown["parents"] == [first["candidate"]]
    compared = call(place, "compare", one=child["candidate"])[1]
    assert "-int f() { return 1; }" in compared["diff"]
    found = call(place, "search", problem="softmax", words="try", most=50)[1]
    assert [hit["candidate"] for hit in found["worked"]] == [first["candidate"]]
    card = call(place, "problem_card", problem="softmax")[1]
    assert card["sha256"] == PROBLEM.digest
    assert card["best"]
    assert card["floor_s"] > 0


def test_answers_are_as_the_schemas_say(place):
    import jsonschema

    recorded(place, FIRST)

    async def work(client):
        schemas = {t.name: t.output_schema for t in (await client.list_tools()).tools}
        calls = {
            "list_problems": {},
            "problem_card": {"problem": "softmax"},
            "chip_card": {"chip": "mi300x"},
            "show": {"candidate": FIRST.id},
            "compare": {"one": FIRST.id, "other": FIRST.id},
            "search": {"problem": "softmax", "everywhere": True},
            "judge": {"problem": "softmax", "candidate": FIRST.id},
            "read_guide": {"name": "h100"},
        }
        for name, arguments in calls.items():
            got = await client.call_tool(name, arguments)
            assert not got.is_error, (name, got.content[0].text)
            jsonschema.validate(got.structured_content, schemas[name])

    session(place, work)


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("problem_card", {"problem": "softmex"}, "did you mean 'softmax'?"),
        ("problem_card", {}, "problem: Field required"),
        ("chip_card", {"chip": "h1000"}, "unknown chip 'h1000'"),
        ("show", {"candidate": "zzz"}, "unknown candidate"),
        ("show", {"candidate": "%"}, "unknown candidate"),
        ("compare", {"one": "zzz"}, "unknown candidate"),
        ("search", {"problem": "softmax", "most": 999}, "ask for 1 to 50"),
        ("read_guide", {"name": "abacus"}, "abacus"),
        ("judge", {"problem": "softmax"}, "nothing to judge"),
        ("judge", {"problem": "softmax", "files": {"a.txt": "x"}}, "is no forward.py"),
        ("judge", {"problem": "softmax", "files": FILES, "plan": "fast"}, "plan"),
        ("judge", {"problem": "softmax", "files": FILES, "folder": "x"}, "files and folder"),
        ("judge", {"problem": "softmax", "files": {**FILES, "../x.h": "y"}}, "leaves the"),
        ("judge", {"problem": "softmax", "files": {**FILES, "-o.h": "y"}}, "option of the"),
        ("judge", {"problem": "softmax", "files": ["a"]}, "files"),
        ("grow", {"problem": "softmax", "count": 1000}, "ask for 1 to 32"),
        ("grow", {"problem": "softmax", "vary": {"unroll": ["x"]}}, "vary"),
        ("lessons", {"problem": "softmax", "most": 0}, "ask for 1 to 50"),
        ("diagnose_report", {"report": "../ledger.sqlite"}, "leads out"),
        ("diagnose_report", {"report": "nothing.csv"}, "there is no nothing.csv"),
        ("disassemble", {"candidate": "zzz"}, "unknown candidate"),
        ("profile", {"candidate": "zzz"}, "unknown candidate"),
        ("export", {"candidate": "zzz", "folder": "out"}, "unknown candidate"),
        ("job_status", {"job_id": "zzz"}, "unknown job"),
        ("job_result", {"job_id": "zzz", "wait_s": 1}, "unknown job"),
        ("job_result", {"job_id": "zzz", "wait_s": 9999}, "give 0 to 40"),
    ],
)
def test_bad_input_is_one_line_with_its_mend(place, tool, arguments, says):
    failed, text = call(place, tool, **arguments)
    assert failed
    assert says in text
    assert len(text.splitlines()) == 1
    assert "Traceback" not in text


@pytest.mark.parametrize("path", ["../outside", "/etc", "link", "inner/../../outside", "\0", "~"])
def test_no_path_leads_out_of_the_working_folder(place, path):
    if not (place.root / "link").is_symlink():
        (place.root / "link").symlink_to(place.outside)
    failed, text = call(place, "judge", problem="softmax", folder=path)
    assert failed
    assert "hidden" not in text
    assert any(word in text for word in ("leads out", "there is no", "is no path")), text
    failed, text = call(place, "export", candidate=FIRST.id, folder=path)
    assert failed


def test_a_link_inside_a_folder_of_sources_is_not_followed(place):
    folder = place.root / "linked"
    folder.mkdir()
    (folder / "forward.py").write_text("def forward(self, x): ...\n")
    (folder / "kernel.py").symlink_to(place.outside / "secret.py")
    failed, text = call(place, "judge", problem="softmax", folder="linked")
    assert failed
    assert "kernel.py leads out" in text


def test_a_folder_of_sources_is_judged(place):
    folder = place.root / "mine"
    folder.mkdir()
    for name, text in {**FILES, "kernel.cpp": "// by hand\n"}.items():
        (folder / name).write_text(text)
    failed, answer = call(place, "judge", problem="softmax", folder="mine", intent="by hand")
    assert not failed, answer
    with Ledger(place.path) as ledger:
        assert ledger.candidate(answer["candidate"]).intent == "by hand"


def test_an_export_replaces_nothing(place):
    recorded(place, FIRST)
    (place.root / "kept").mkdir()
    (place.root / "kept" / "notes.txt").write_text("precious")
    for folder in ("kept", ".", ""):
        failed, text = call(place, "export", candidate=FIRST.id, folder=folder)
        assert failed
        assert "exists already" in text
    assert (place.root / "kept" / "notes.txt").read_text() == "precious"


def test_a_screened_candidate_is_not_exported(place):
    recorded(place, FIRST)
    failed, text = call(place, "export", candidate=FIRST.id, folder="out")
    assert failed
    assert "only screened" in text
    assert not (place.root / "out").exists()


def test_a_file_of_the_agents_is_no_problem(place):
    evil = place.root / "evil.py"
    evil.write_text("import os\nos.mkdir('ran')\n")
    failed, text = call(place, "problem_card", problem="evil.py")
    assert failed
    assert "unknown problem" in text
    assert not (place.root / "ran").exists()


def test_problems_are_pinned_as_they_were_at_the_start(place, tmp_path):
    file = place.root / "model.py"
    file.write_text("first = 1\n")
    tools = Tools([str(file)], place.root, place.tools.machine, place.path)
    before = tools.list_problems().problems[0]
    assert (before.name, before.edited) == ("model", False)
    file.write_text("second = 2\n")
    after = tools.list_problems().problems[0]
    assert after.edited
    assert after.source_sha256 == before.source_sha256
    (place.root / "model.toml").write_text("[epitaxy]\nerror_ratio = 1e9\n")
    assert tools.list_problems().problems[0].edited


def test_any_file_may_be_named_where_that_was_asked_for(place, monkeypatch):
    asked = []
    named = fake_records.problem(name="own", source="y = x")

    def load(*given, **more):
        asked.append((given, more))
        return named

    monkeypatch.setattr("epitaxy.serve.offered.load", load)
    (place.root / "own.py").write_text("x = 1\n")
    (place.root / "own.toml").write_text("[epitaxy]\nerror_ratio = 1e9\n")
    free = Tools([], place.root, None, place.path, free=True)
    assert "may be named too" in free.list_problems().note
    free.offers.problem("own.py")
    assert asked == [((place.root / "own.py",), {"policy": Policy()})]
    with Ledger(place.path) as ledger:
        ledger.add_problem(named)
        card = Desk(named, place.tools.machine, ledger).problem_card()
    assert "an agent named this problem" in card.notes[0]
    origins = {offer.name: offer.origin for offer in place.tools.list_problems().problems}
    assert "an agent named this problem" in origins["own"]
    assert origins["softmax"] == "ledger"
    with pytest.raises(BadInput, match="leads out"):
        free.offers.problem("../outside/secret.py")


def test_what_cannot_be_offered_is_said_at_the_start(place):
    for files in (["nowhere.py"], [str(place.root)]):
        with pytest.raises(BadInput, match="no such file"):
            Tools(files, place.root, None)
    with pytest.raises(BadInput, match="is no folder"):
        Tools([], place.root / "nowhere", None)
    with pytest.raises(UnknownName):
        place.tools.offers.problem("nothing")


def test_what_takes_long_becomes_a_job_and_tells_its_steps(place, monkeypatch):
    gate = threading.Event()

    def slow(self, candidate, plan="screen", say=None):
        say("first step")
        gate.wait(20)
        say("second step")
        return original(self, candidate, plan, say)

    original = Desk.judge
    monkeypatch.setattr(Desk, "judge", slow)
    heard = []

    async def progress(done, total, message):
        heard.append(message)

    async def work(client):
        arguments = {"problem": "softmax", "files": {**FILES, "kernel.cpp": "// slow"}}
        got = await client.call_tool("judge", arguments, progress_callback=progress)
        answer = got.structured_content
        assert not answer["done"]
        assert answer["result"] is None
        job = {"job_id": answer["job_id"]}
        status = (await client.call_tool("job_status", job)).structured_content
        assert (status["state"], status["tool"]) == ("running", "judge")
        waiting = (await client.call_tool("judge", arguments)).structured_content
        queued = await client.call_tool("job_status", {"job_id": waiting["job_id"]})
        assert queued.structured_content["state"] == "queued"
        # What only reads does not wait for what measures.
        assert not (await client.call_tool("chip_card", {})).is_error
        gate.set()
        while not (ended := (await client.call_tool("job_result", job)).structured_content)["done"]:
            pass
        assert ended["result"]["status"] == "accepted"
        while not (await client.call_tool("job_result", {"job_id": waiting["job_id"]})
                   ).structured_content["done"]:  # fmt: skip
            pass
        return ended

    async def run():
        server, jobs = make(place.tools, patience_s=0.5)
        async with Client(server) as client:
            ended = await work(client)
        jobs.close()
        return ended

    ended = anyio.run(run)
    assert "first step" in heard
    assert ended["steps"][-2:] == ["second step", "recording"]


def test_a_job_that_fails_says_why(place):
    async def work(client):
        return await client.call_tool("judge", {"problem": "nothing", "files": FILES})

    got = session(place, work)
    assert got.is_error
    assert "unknown problem 'nothing'" in got.content[0].text


def test_resources_and_prompts(place):
    recorded(place, FIRST)

    async def work(client):
        read = client.read_resource
        texts = {}
        for uri in ("problem/softmax", "chip/h100", "guide/h100", f"candidate/{FIRST.id}",
                    f"candidate/{FIRST.id}/kernel.cpp"):  # fmt: skip
            texts[uri] = (await read(f"epitaxy://{uri}")).contents[0].text
        with pytest.raises(Exception, match=r"unknown candidate|no nothing"):
            await read("epitaxy://candidate/zzz")
        prompt = await client.get_prompt("optimize", {"problem": "softmax"})
        names = {p.name for p in (await client.list_prompts()).prompts}
        return texts, prompt.messages[0].content.text, names

    texts, prompt, names = session(place, work)
    assert texts["problem/softmax"] == PROBLEM.source
    assert json.loads(texts["chip/h100"])["vendor"] == "NVIDIA"
    assert "## Sources" in texts["guide/h100"]
    assert texts[f"candidate/{FIRST.id}/kernel.cpp"] == FIRST.files["kernel.cpp"]
    assert "`softmax`" in prompt
    assert names == {"optimize", "explain"}
