"""The shipped chips: found by prefix or alias, every number sourced, nothing from memory."""

from pathlib import Path

import pytest

from epitaxy import chip_facts
from epitaxy.chip import Fact
from epitaxy.chip_facts import find, load_all
from epitaxy.chip_report import card, compare
from epitaxy.errors import BadInput, UnknownName


def test_every_chip_is_there_and_every_fact_has_confidence_and_a_listed_source():
    chips = load_all()
    files = list((Path(chip_facts.__file__).parent / "chips").rglob("*.toml"))
    assert len(chips) == len(files) >= 31
    assert len({n for c in chips for n in (c.id, *c.aliases)}) == sum(
        1 + len(c.aliases) for c in chips
    )
    for chip in chips:
        for name, fact in chip.facts.items():
            assert fact.confidence != "C", (chip.id, name)
            assert set(fact.sources) <= set(chip.sources), (chip.id, name)


def test_a_fact_from_memory_cannot_be_built():
    with pytest.raises(BadInput):
        Fact(value=1, unit="W", confidence="C", sources=("X",))
    with pytest.raises(BadInput):
        Fact(value=1, unit="W", confidence="A", sources=())


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("h100", "h100_sxm"),
        ("tpu-v6e", "tpu_v6e"),
        ("trainium2", "trainium2"),
        ("GRAV", "graviton4"),
    ],
)
def test_found_by_alias_prefix_and_in_any_case(name, id_):
    assert find(name).id == id_


def test_ambiguous_and_unknown_names_say_what_was_near():
    with pytest.raises(BadInput, match="ambiguous") as e:
        find("tpu")
    assert "tpu_v5e" in e.value.mend
    with pytest.raises(UnknownName) as u:
        find("h10O")
    assert "h100" in u.value.mend


def test_comparison_says_unknown_and_never_guesses():
    header, rows = compare([find(n) for n in ("h100", "mi300x", "trainium2", "tpu_v6e")])
    table = {r[0]: r[1:] for r in rows}
    assert header[1:] == ("h100_sxm", "mi300x", "trainium2", "tpu_v6e")
    assert (
        table[
            "peak bf16, T/s dense"
            if "peak bf16, T/s dense" in table
            else "peak bfloat16, T/s dense"
        ][0]
        == "989"
    )
    assert table["TDP, W"][3] == "unknown"
    assert any("not verified" in v for k, v in card(find("h100")) if k == "unknown")
