"""JSON of a report, with one kind of error."""

from __future__ import annotations

import json
from typing import Any

from epitaxy.errors import BadInput
from epitaxy.reader import Report


def load(report: Report) -> Any:
    """The whole document. Raises BadInput where it is cut off or no JSON."""
    try:
        return json.loads(report.text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{report.path} is no whole JSON: {error}", "is it cut off? copy it again"
        ) from None
