"""neuron-profile's summary as JSON: rows of the table Summary, alone, in a list or by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from epitaxy.errors import BadInput
from epitaxy.metric import Profile
from epitaxy.reader import Report
from epitaxy.readers import _json, _neuron

_DEPTH = 4


class NeuronJson:
    """Neuron's summary in JSON."""

    name = "neuron_json"
    what = "neuron-profile view --output-format summary-json"

    def recognises(self, report: Report) -> bool:
        """By fields that only this summary has."""
        head = report.head
        return head.lstrip()[:1] in (b"{", b"[") and (
            b'"mm_arithmetic_intensity"' in head or b'"tensor_engine_active_time"' in head
        )

    def read(self, report: Report) -> tuple[Profile, ...]:
        """A profile for each row. Raises BadInput."""
        found = tuple(
            _neuron.profile(r, n) for n, r in _rows(_json.load(report), report.path.stem, 0)
        )
        if not found:
            raise BadInput(f"{report.path} holds no summary", "use --output-format summary-json")
        return found


def plugin() -> NeuronJson:
    """The reader."""
    return NeuronJson()


def _rows(value: Any, name: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if _neuron.is_row(value):
        yield name, value
    elif depth < _DEPTH and isinstance(value, dict):
        for key, inner in value.items():
            yield from _rows(inner, str(key), depth + 1)
    elif depth < _DEPTH and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _rows(inner, f"{name}[{number}]" if len(value) > 1 else name, depth + 1)
