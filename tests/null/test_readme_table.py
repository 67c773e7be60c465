"""The README's table says what the recorded data say."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import chips_table
import readme_table

CELL = {"problem": "rms", "chip": "h100_sxm", "toolchain": "triton_nvidia", "basis": "checked",
        "error": 0.25, "left": []}  # fmt: skip


def test_the_readme_holds_the_table_of_the_recorded_data():
    text = readme_table.README.read_text(encoding="utf-8")
    assert readme_table.BEGIN in text
    assert readme_table.wanted(text) == text, "run: python benchmarks/readme_table.py"


def test_a_changed_cell_is_noticed():
    text = readme_table.README.read_text(encoding="utf-8")
    edited = text.replace(" checked, of ", " measured, of ", 1)
    assert edited != text
    assert readme_table.wanted(edited) != edited


def test_rows_count_what_is_on_record():
    found = [{"name": "triton_nvidia", "ok": True, "with": "Triton", "chips": ["a"], "how": "h"},
             {"name": "cpp", "ok": True, "with": "g++", "chips": ["b"], "how": "run"}]  # fmt: skip
    missing = CELL | {"basis": "none", "why": "a gather"}
    made = readme_table.table(found, [CELL, CELL, missing])
    assert "| `triton_nvidia` | a | Triton | h | 2 checked, of 3 |" in made
    assert "| `cpp` | b | g++ | run | nothing yet |" in made


def test_the_table_of_chips_says_why_a_cell_is_empty():
    missing = CELL | {"chip": "trainium2", "toolchain": "nki_trainium", "basis": "none",
                      "why": "a gather"}  # fmt: skip
    made = chips_table.table([CELL, missing])
    assert "|rms|checked 25%|none|" in made
    assert "- rms on trainium2: a gather" in made
    assert "1 of 2 cells hold a kernel: 1 checked." in made
