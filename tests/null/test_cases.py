"""The judge's cases: which are kept, by the memory there is."""

from types import SimpleNamespace

import pytest

from epitaxy import cases
from epitaxy.cases import Cases

BYTES = 1 << 20


@pytest.fixture
def reference():
    spec = SimpleNamespace(bytes=BYTES, dtype="float32")
    return SimpleNamespace(
        problem=SimpleNamespace(
            inputs=[spec], outputs=[spec], policy=SimpleNamespace(precision="fp32-strict")
        ),
        distributions=lambda: ["normal", "large", "tiny"],
        inputs=lambda seed, name: [name],
        blend=lambda first, second, seed: [*first, *second],
        run=list,
        oracle=list,
        unusable=lambda *_: "",
        error=lambda *_: 0.0,
        movement=lambda *_: 0.0,
        notes=[],
    )


@pytest.mark.parametrize(("room_bytes", "kept"), [(1 << 40, True), (0, False)])
def test_cases_beside_the_timed_ones_are_kept_while_memory_allows(
    room_bytes, kept, reference, monkeypatch
):
    monkeypatch.setattr(cases, "available_bytes", lambda: room_bytes)
    made = Cases(reference, 1, lambda check, message: None)
    same = [made.get(number) is made.get(number) for number in range(made.count)]
    assert same == [True, True, *[kept] * (made.count - 2)]
    assert made.get(cases.BLEND) is made.get(cases.BLEND)
