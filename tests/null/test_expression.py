"""The arithmetic of rules: what it says, and that nothing else can be said in it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epitaxy.errors import BadInput
from epitaxy.expression import Evaluation, Missing, Undefined, names, parse

VALUES = {"a": 3.0, "b": 4.0, "sm__x.avg.pct": 50.0, "L1-misses": 7.0, "zero": 0.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b * 2", 11.0),
        ("sm__x.avg.pct / 100", 0.5),
        ('"L1-misses" - 1', 6.0),
        ("max(a, b, 1)", 4.0),
        ("1 if a > b else 2", 2.0),
        ("1 < a <= 3", 1.0),
        ("first(c, b)", 4.0),
        ("has(c)", 0.0),
        ("has(a) and not has(c)", 1.0),
        ("c > 1 or a > 1", 1.0),
        ("-floor(a / 2)", -1.0),
        ("d + 1", 8.0),
    ],
)
def test_what_it_says(text, value):
    assert Evaluation(VALUES, {"d": "a + b"}).value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "a.__class__()", "(a for a in b)", "[a]", "lambda: a", "a ** b",
        "f'{a}'", "min(a, key=b)", "max(*a)", "a @ b", "exec('1')", "a[0]", "a := 1", "b'x'",
        "1j", "min()", "", "a b", "(1).real", "a" * 3000, "a << 2", "a is b", "a in b",
    ],
)  # fmt: skip
def test_nothing_else_can_be_said(text):
    with pytest.raises(BadInput):
        parse(text)


def test_what_is_missing_is_named_and_nothing_is_guessed():
    ask = Evaluation(VALUES)
    with pytest.raises(Missing) as caught:
        ask.value("a + first(c, d) + e")
    assert caught.value.names == ("c", "d")
    with pytest.raises(Missing):
        ask.holds("c > 1 and a > 1")
    assert not ask.holds("c > 1 and a > 100")


def test_what_has_no_value_is_said():
    with pytest.raises(Undefined, match="divides by zero"):
        Evaluation(VALUES).value("a / zero")
    with pytest.raises(BadInput, match="needs itself"):
        Evaluation({}, {"x": "y + 1", "y": "x"}).value("x")


def test_what_was_read_is_known():
    ask = Evaluation(VALUES, {"half": "sm__x.avg.pct / 2"})
    assert ask.holds("half > 20 or b > 1")
    assert ask.read == {"sm__x.avg.pct": 50.0}
    assert names("max(a, sm__x.avg.pct) + 'L1-misses'") == ("a", "sm__x.avg.pct", "L1-misses")


@given(st.text(max_size=60))
def test_any_text_is_refused_or_evaluated(text):
    """Whatever a rules file holds, there is one kind of error."""
    with contextlib.suppress(BadInput, Missing, Undefined):
        Evaluation(VALUES).value(text)
