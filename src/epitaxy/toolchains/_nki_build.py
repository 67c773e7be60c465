"""Run confined, as a program: hold a bundle's NKI kernels against the chip's published limits.

    python -m epitaxy.toolchains._nki_build JOB.json

ModelNew is called once with our model of NKI in the place of `nki`, on shapes alone. A limit that
is broken is named with the bytes; otherwise `metrics.json` holds what the kernels move, hold and
compute. Nothing is compiled: AWS's compiler is not public.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from epitaxy.toolchains._builder import Refused, build, called, opened, telling


def main(path: str) -> int:
    """Look; what is refused goes to stdout as one line beginning with `error:`."""
    return build(path, _build)


def _build(job: dict[str, Any]) -> None:
    found = _counted(job)
    if not found.get("launches"):
        raise Refused("the candidate calls no NKI kernel")
    Path("metrics.json").write_text(json.dumps(found), encoding="utf-8")


def _counted(job: dict[str, Any]) -> dict[str, float]:
    from epitaxy.toolchains import _nki_model as model

    found: dict[str, float] = {}

    def dry(kernel: Any) -> Any:
        def call(*arrays: Any) -> Any:
            counts, results = model.looked_at(kernel, arrays)
            for name, value in counts.items():
                most = name.endswith(("_bytes", "_least"))
                found[name] = (
                    max(found.get(name, 0.0), value) if most else (found.get(name, 0.0) + value)
                )
            found["launches"] = found.get("launches", 0.0) + 1
            return results

        return call

    model.install()
    sys.modules["nki"].__dict__["simulate"] = dry
    try:
        called(*opened(), job)
    except model.Illegal as error:
        raise Refused(telling(error)) from None
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
