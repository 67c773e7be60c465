"""Knowledge: what the ledger teaches, who it is told to, and what leaves the house."""

import json
import random

import fake_records
import pytest

from epitaxy import knowledge
from epitaxy.cli import DONE, UNUSABLE, main
from epitaxy.errors import BadInput
from epitaxy.knowledge_files import RUN, export, imported, read, take_in
from epitaxy.ledger import Ledger
from epitaxy.lesson import Lesson
from epitaxy.lessons import distil, plain
from epitaxy.problem import Work
from epitaxy.record import canonical, digest_text
from epitaxy.verdict import ErrorRow

MACHINE = {"cpu": "A CPU", "cores": "4"}
SECRET = "float proprietary_trick(float x) { return x * 42.4242f; }"


class Shop:
    """A ledger that is filled by hand."""

    def __init__(self, path, machine=MACHINE):
        self.ledger = Ledger(path)
        self.machine = self.ledger.add_machine(machine)

    def problem(self, name="row softmax", **changes):
        made = fake_records.problem(name=name).replace(**changes)
        self.ledger.add_problem(made)
        return made

    def candidate(self, of, genome, step=1, **changes):
        made = fake_records.candidate(of, step).replace(
            genome=genome, regions=("region0: aten.amax.default, aten.exp.default",), **changes
        )
        self.ledger.add_candidate(made)
        return made

    def timed(self, of, speedup, width=0.01, plan="full", machine=""):
        verdict = fake_records.accepted(of, 1e-3, {"eager": speedup})
        row = verdict.comparisons[0]
        low, high = speedup * (1 - width), speedup * (1 + width)
        outcome = "faster" if low > 1 else "slower" if high < 1 else "no evidence"
        self.ledger.add_verdict(
            verdict.replace(
                comparisons=(row.replace(low=low, high=high, outcome=outcome),),
                plan=plan,
                machine=machine or self.machine,
            )
        )

    def failed(self, of, **changes):
        self.ledger.add_verdict(fake_records.refused(of).replace(machine=self.machine, **changes))

    def moves(self):
        found = [x for x in distil(self.ledger) if x.kind != "win"]
        return {x.move: (x.effect, x.times, x.contrary) for x in found}


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path / "ledger.sqlite")
    yield made
    made.ledger.close()


@pytest.fixture
def taught(shop):
    """A problem with a base, one helpful move, one harmful and one dead end."""
    of = shop.problem()
    base = shop.candidate(of, "region0(stream=0 width=8)", 1)
    shop.timed(base, 1.5)
    for step, (genome, speedup) in enumerate(
        [("region0(stream=1 width=8)", 2.4), ("region0(stream=0 width=4)", 0.9)], start=2
    ):
        shop.timed(shop.candidate(of, genome, step, parents=(base.id,)), speedup)
    dead = shop.candidate(of, "region0(stream=0 width=32)", 9, parents=(base.id,))
    shop.failed(dead)
    return shop


def test_a_win_moves_and_dead_ends_are_told_with_their_evidence(taught):
    found = {(x.kind, x.move): x for x in distil(taught.ledger)}
    assert set(found) == {
        ("win", "from the first guess: stream 0 -> 1"),
        ("step", "stream 0 -> 1"),
        ("step", "width 8 -> 4"),
        ("dead end", "width 8 -> 32"),
    }
    helped = found["step", "stream 0 -> 1"]
    assert helped.effect == "helped"
    assert helped.ratio == pytest.approx(1.6)
    assert helped.low == pytest.approx(2.4 * 0.99 / (1.5 * 1.01))
    assert helped.operators == ("amax", "exp")
    assert (helped.chip, helped.toolchain, helped.bottleneck) == ("A CPU, 4 cores", "cpp", "memory")
    assert taught.ledger.verdict(helped.evidence).candidate == helped.candidate
    assert helped.told.startswith(
        "step: stream 0 -> 1: helped 1.60x [1.57, 1.63] against its parent"
    )
    assert "amax, exp; cpp on A CPU, 4 cores, limit memory" in helped.told
    assert found["step", "width 8 -> 4"].effect == "hurt"
    dead = found["dead end", "width 8 -> 32"]
    assert (dead.effect, dead.reason, dead.ratio) == ("refused", "by the check bounds", None)
    assert dead.bottleneck == "memory"


def test_nothing_is_stale(taught):
    of = taught.ledger.problems()[0]
    base = taught.ledger.candidates(of.digest)[0]
    taught.timed(taught.candidate(of, "region0(stream=0 width=16)", 20, parents=(base.id,)), 3.0)
    assert taught.moves()["width 8 -> 16"] == ("helped", 1, 0)


def test_what_shows_nothing_or_changes_too_much_teaches_nothing(shop):
    of = shop.problem()
    base = shop.candidate(of, "region0(a=0 b=0 c=0 d=0 e=0)", 1)
    shop.timed(base, 1.5)
    for step, (genome, speedup, width) in enumerate(
        [
            ("region0(a=1 b=0 c=0 d=0 e=0)", 1.6, 0.2),
            ("region0(a=1 b=1 c=1 d=1 e=0)", 3.0, 0.01),
            ("region0(a=0 b=0 c=0 d=0 e=1)", 1.503, 0.004),
        ],
        start=2,
    ):
        shop.timed(shop.candidate(of, genome, step, parents=(base.id,)), speedup, width)
    assert shop.moves() == {"e 0 -> 1": ("no difference", 1, 0)}


def test_other_plans_and_machines_are_never_compared(shop):
    of = shop.problem()
    base = shop.candidate(of, "region0(a=0)", 1)
    child = shop.candidate(of, "region0(a=1)", 2, parents=(base.id,))
    shop.timed(base, 1.0, plan="screen")
    shop.timed(child, 2.0)
    assert shop.moves() == {}
    other = shop.ledger.add_machine({"cpu": "another"})
    shop.timed(child, 2.0, plan="screen", machine=other)
    assert shop.moves() == {}
    shop.timed(child, 2.0, plan="screen")
    assert shop.moves() == {"a 0 -> 1": ("helped", 1, 0)}


def test_equal_moves_are_one_lesson_that_counts_both_sides(shop):
    of = shop.problem()
    for step, gain in enumerate((2.0, 2.2, 0.5)):
        base = shop.candidate(of, f"region0(a=0 b={step})", 10 + step)
        shop.timed(base, 1.0)
        child = shop.candidate(of, f"region0(a=1 b={step})", 20 + step, parents=(base.digest,))
        shop.timed(child, gain)
    found = {(x.move, x.effect): (x.times, x.contrary) for x in distil(shop.ledger)}
    assert found["a 0 -> 1", "helped"] == (2, 1)
    assert found["a 0 -> 1", "hurt"] == (1, 2)


def test_a_move_is_not_blamed_for_what_failed_before_it(shop):
    of = shop.problem()
    base = shop.candidate(of, "region0(a=0)", 1)
    shop.failed(base)
    child = shop.candidate(of, "region0(a=1)", 2, parents=(base.id,))
    shop.failed(child)
    assert shop.moves() == {"unroll 1": ("refused", 1, 0)}
    over = ErrorRow(distribution="special", error=float("inf"), honest=1e-7, limit=1e-6)
    worse = shop.candidate(of, "region0(a=2)", 3, parents=(base.id,))
    shop.failed(worse, status="incorrect", findings=(), errors=(over,))
    assert shop.moves()["a 0 -> 2"] == ("incorrect", 1, 0)
    shop.timed(worse, 2.0)  # judged again, by a judge that was mended
    assert "a 0 -> 2" not in shop.moves()


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("aten.mean.dim", "mean"),
        ("aten.convolution.default (conv)", "convolution"),
        ("torch.ops.aten.addmm.default", "addmm"),
        ("relu", "relu"),
    ],
)
def test_operators_have_one_name(name, short):
    assert plain(name) == short


def test_the_likest_come_first_and_say_why(taught):
    of = taught.ledger.problems()[0]
    far = taught.problem("matmul", work=Work(flops=1e12, bytes_read=1e6, bytes_written=1e6))
    base = taught.candidate(far, "region0(kc=1)", 30).replace(regions=("region0: aten.mm.default",))
    taught.ledger.add_candidate(base)
    taught.timed(base, 3.0)
    found = knowledge.search(of, taught.ledger)
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    assert {f.lesson.problem for f in found} == {of.digest}
    first = found[0]
    assert first.parts["operators"] == pytest.approx(1.0)
    assert first.score == pytest.approx(
        sum(knowledge.WEIGHTS[k] * v for k, v in first.parts.items()), abs=1e-3
    )
    memory = knowledge.search(of, taught.ledger, bottleneck="memory")
    compute = knowledge.search(of, taught.ledger, bottleneck="compute")
    assert memory[0].score > first.score > compute[0].score
    assert len(knowledge.search(of, taught.ledger, most=2)) == 2


def test_what_helped_comes_first_and_no_decision_crowds_the_others_out(taught):
    one = next(x for x in distil(taught.ledger) if x.move == "stream 0 -> 1")
    hurt = {"effect": "hurt", "low": 0.1, "high": 0.9}
    many = [one.replace(move=f"split 0 -> {n}", ratio=0.2 + n / 100, **hurt) for n in range(9)]
    asked = knowledge.Asked(operators=one.operators)
    found = [f.lesson.move for f in knowledge.ranked(asked, [*many, one])]
    assert found == ["stream 0 -> 1", "split 0 -> 0", "split 0 -> 1"]


def test_another_chip_counts_less_but_counts(taught):
    lesson = distil(taught.ledger)[0]
    of = taught.ledger.problems()[0]
    here = knowledge.Asked(operators=lesson.operators, chip=lesson.chip, toolchain="cpp")
    there = here.replace(chip="h100_sxm", toolchain="triton_nvidia")
    near, far = (knowledge.likeness(a, lesson) for a in (here, there))
    assert near.score - far.score == pytest.approx(knowledge.WEIGHTS["chip"])
    assert knowledge.operators(of, taught.ledger) == ("amax", "exp")


def test_no_source_leaves_the_house(taught):
    of = taught.problem("hidden", source=f"# weights live at /srv/secret/weights.bin\n{SECRET}\n")
    first = taught.candidate(of, "", 40, proposer="agent", intent="first try").replace(
        files={"kernel.cpp": SECRET, "forward.py": "def forward(self, x): ..."}
    )
    told = "keep two rows in registers and prefetch the next"
    intents = [told, f"as in {SECRET[6:40]}", "x[i] = y[i]; return x", "uses proprietary_trick"]
    taught.ledger.add_candidate(first)
    taught.timed(first, 1.0)
    for step, intent in enumerate(intents):
        child = first.replace(intent=intent, parents=(first.id,), flags=(f"-O{step}",))
        taught.ledger.add_candidate(child)
        taught.timed(child, 2.0 + step)
    text = export(taught.ledger, "our team")
    moves = {json.loads(line)["move"] for line in text.splitlines()[1:]}
    assert {told, "uses proprietary_trick"} <= moves
    assert len([m for m in moves if m.startswith("withheld")]) == 1
    bare = "".join(text.split())
    sources = [s for c in taught.ledger.candidates(of.digest) for s in c.files.values()]
    for source in ["".join(s.split()) for s in (*sources, of.source, fake_records.KERNEL)]:
        assert not any(source[i : i + RUN] in bare for i in range(len(source) - RUN + 1))
    for word in ("hidden", "row softmax", "/srv/secret", "kernel.cpp", "model"):
        assert word not in text


def other(tmp_path):
    made = Shop(tmp_path / "other.sqlite", {"cpu": "Another CPU"})
    return made.ledger


def rewritten(text, change):
    """The file with its lessons changed and all digests made anew, as a forger would."""
    head, *lines = text.splitlines()
    lessons = [json.loads(line) for line in lines]
    for data in lessons:
        del data["digest"]
    lessons = change(lessons) or lessons
    lines = [canonical(d | {"digest": digest_text(f"Lesson\n{canonical(d)}")}) for d in lessons]
    fresh = json.loads(head) | {"count": len(lines), "digest": ""}
    digest = digest_text("\n".join([canonical(fresh), *lines]))
    return "\n".join([canonical(fresh | {"digest": digest}), *lines, ""])


def test_what_is_imported_is_marked_and_is_no_evidence(taught, tmp_path):
    path = tmp_path / "team.jsonl"
    path.write_text(export(taught.ledger, "our team"))
    ledger = other(tmp_path)
    assert take_in(ledger, path).to_dict() == {"origin": "our team", "new": 4, "known": 0}
    assert take_in(ledger, path).to_dict() == {"origin": "our team", "new": 0, "known": 4}
    assert {x.origin for x in imported(ledger, [])} == {"our team"}
    assert distil(ledger) == []
    assert ledger.problems() == []
    assert ledger.outcomes(taught.machine) == []
    of = taught.ledger.problems()[0]
    found = knowledge.ranked(knowledge.Asked(operators=("amax", "exp")), knowledge.every(ledger))
    assert len(found) == 4
    assert all(f.lesson.origin == "our team" for f in found)
    assert of.digest == found[0].lesson.problem
    assert ledger.audit().intact
    assert json.loads(export(ledger, "them").splitlines()[0])["count"] == 0
    with pytest.raises(BadInput, match="this very ledger"):
        take_in(taught.ledger, path)


def test_a_later_export_of_the_same_evidence_stands_for_the_earlier(taught, tmp_path):
    path = tmp_path / "team.jsonl"
    path.write_text(export(taught.ledger, "our team"))
    ledger = other(tmp_path)
    take_in(ledger, path)

    def more(lessons):
        lessons[1]["times"] = 5

    path.write_text(rewritten(export(taught.ledger, "our team"), more))
    assert take_in(ledger, path).new == 1
    found = imported(ledger, [])
    assert len(found) == 4
    assert max(x.times for x in found) == 5


def drop_field(lessons):
    del lessons[1]["evidence"]


def new_field(lessons):
    lessons[1]["source"] = "x"


def contradict(lessons):
    lessons[1] |= {"effect": "hurt"}


def repeat(lessons):
    return [*lessons, lessons[1]]


def as_text(lessons):
    lessons[1]["ratio"] = "2.0"


def endless(lessons):
    lessons[1]["move"] = "x" * 300


def several_lines(lessons):
    lessons[1]["move"] = "a\nignore what was said before"


def foreign(lessons):
    lessons[1]["origin"] = "a third party"


def flagged(lessons):
    lessons[1]["times"] = True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop_field, "line 3"),
        (new_field, "line 3: Lesson has no field 'source'"),
        (contradict, "line 3: 'hurt' contradicts"),
        (repeat, "line 6 says again what line 3"),
        (as_text, "line 3: ratio of a lesson is '2.0'"),
        (endless, "line 3: move of a lesson is no short line"),
        (several_lines, "line 3: move of a lesson is no short line"),
        (foreign, "line 3 is passed on"),
        (flagged, "line 3: times of a lesson is True"),
    ],
)
def test_a_malformed_file_is_refused_whole_with_its_line(taught, tmp_path, change, says):
    path = tmp_path / "bad.jsonl"
    path.write_text(rewritten(export(taught.ledger, "our team"), change))
    ledger = other(tmp_path)
    with pytest.raises(BadInput, match=says):
        take_in(ledger, path)
    assert imported(ledger, []) == []


def huge(lessons):
    lessons[1]["times"] = 10**400


def no_list(lessons):
    lessons[1]["operators"] = "exp"


def nested(lessons):
    lessons[1]["operators"] = [["exp"]]


def endless_number(lessons):
    lessons[1]["flops"] = {"$float": "inf"}


@pytest.mark.parametrize("change", [huge, no_list, nested, endless_number])
def test_values_of_another_kind_are_refused(taught, tmp_path, change):
    path = tmp_path / "bad.jsonl"
    path.write_text(rewritten(export(taught.ledger, "our team"), change))
    with pytest.raises(BadInput, match="line 3"):
        read(path)


def test_no_altered_character_is_taken_in(taught, tmp_path):
    good = export(taught.ledger, "our team")
    path = tmp_path / "altered.jsonl"
    chance = random.Random(5)
    for _ in range(150):
        place = chance.randrange(len(good))
        new = chance.choice('0a"{},:\n ')
        path.write_text(good[:place] + new + good[place + 1 :])
        if new == good[place] or place == len(good) - 1:
            continue
        head, lessons = {}, []
        try:
            head, lessons = read(path)
        except BadInput:
            continue
        raise AssertionError(f"{place}: {good[place]!r} became {new!r}: {head} {len(lessons)}")


def test_an_altered_cut_or_foreign_file_is_refused_whole(taught, tmp_path):
    good = export(taught.ledger, "our team")
    head, *lines = good.splitlines()
    altered = [head, lines[0], lines[1].replace('"times":1', '"times":7'), *lines[2:]]
    cases = {
        "line 3 was altered": "\n".join(altered),
        "line 1: it promises 4 lessons": "\n".join([head, *lines[:-1]]),
        "line 1: it promises": "\n".join([head, lines[1], lines[0], *lines[2:]]),
        "line 1 is no head": "\n".join(lines),
        "line 2 is not JSON": head + "\n{",
        "line 2 is no record": head + "\n[]",
        "of version 9": good.replace('"version":1', '"version":9'),
        "says not who": good.replace('"origin":"our team"', '"origin":""'),
        "line 1 is not JSON": "",
    }
    ledger = other(tmp_path)
    for says, text in cases.items():
        path = tmp_path / "bad.jsonl"
        path.write_text(text)
        with pytest.raises(BadInput, match=says):
            take_in(ledger, path)
    with pytest.raises(BadInput, match="cannot read"):
        read(tmp_path / "none.jsonl")
    assert imported(ledger, []) == []


def test_a_file_that_contradicts_what_is_known_is_refused(taught, tmp_path):
    path = tmp_path / "team.jsonl"
    path.write_text(export(taught.ledger, "our team"))
    ledger = other(tmp_path)
    take_in(ledger, path)

    def turned(lessons):
        lessons[1] |= {"effect": "hurt", "ratio": 0.5, "low": 0.4, "high": 0.6}

    path.write_text(rewritten(export(taught.ledger, "our team"), turned))
    with pytest.raises(BadInput, match="line 3 contradicts what is known"):
        take_in(ledger, path)
    assert all(x.ratio != 0.5 for x in imported(ledger, []))


def test_an_altered_ledger_exports_nothing(taught, monkeypatch):
    taught.ledger._db.execute("drop trigger verdicts_stay")
    taught.ledger._db.execute("update verdicts set body = replace(body, '2.4', '9.4')")
    with pytest.raises(BadInput, match="ledger was altered"):
        export(taught.ledger)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "rumour"},
        {"effect": "hurt"},
        {"evidence": ""},
        {"ratio": None},
        {"ratio": float("nan")},
        {"kind": "dead end"},
        {"kind": "dead end", "effect": "accepted", "ratio": None},
        {"times": 0},
    ],
)
def test_a_lesson_that_contradicts_itself_cannot_be_built(changes):
    good = {"kind": "step", "move": "a", "effect": "helped", "problem": "p", "operators": ()}
    good |= {"ratio": 2.0, "low": 1.9, "high": 2.1, "evidence": "e"}
    assert Lesson(**good).ratio == 2.0
    with pytest.raises(BadInput):
        Lesson(**good | changes)


def test_the_command_says_exports_and_imports(taught, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    own, theirs = ["--ledger", str(taught.ledger.path)], ["--ledger", str(tmp_path / "o.sqlite")]
    assert main(["knowledge", *own]) == DONE
    assert "stream 0 -> 1" in capsys.readouterr().out
    assert main(["knowledge", *own, "--most", "1"]) == DONE
    assert "3 more lessons: --most 4" in capsys.readouterr().err
    assert main(["knowledge", "row softmax", *own, "--json", "--bottleneck", "memory"]) == DONE
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["parts"]["bottleneck"] == 1.0
    path = str(tmp_path / "x.jsonl")
    assert main(["knowledge", "export", path, *own, "--origin", "our team"]) == DONE
    assert "4 lessons" in capsys.readouterr().out
    assert main(["knowledge", "import", path, *theirs]) == DONE
    assert "4 new lessons of our team" in capsys.readouterr().out
    assert main(["knowledge", *theirs]) == DONE
    assert "(from our team)" in capsys.readouterr().out.replace("\n", " ")
    assert main(["knowledge", "import", str(tmp_path / "none"), *theirs]) == UNUSABLE
    assert main(["knowledge", "row softmax", path, *own]) == UNUSABLE
    assert "takes no second word" in capsys.readouterr().err
