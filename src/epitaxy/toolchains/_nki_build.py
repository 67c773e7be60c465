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


def main(path: str) -> int:
    """Look; what is refused goes to stdout as one line beginning with `error:`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        found = _counted(job)
    except Exception as error:
        said = " | ".join(str(error).splitlines()[:3])[:600] or "no message"
        kind = "" if type(error).__name__ == "Illegal" else f"{type(error).__name__}: "
        print(f"error: {kind}{said}")
        return 1
    if not found.get("launches"):
        print("error: the candidate calls no NKI kernel")
        return 1
    Path("metrics.json").write_text(json.dumps(found), encoding="utf-8")
    return 0


def _counted(job: dict[str, Any]) -> dict[str, float]:
    import torch

    from epitaxy.toolchains import _nki_model as model
    from epitaxy.worker.loading import load_file

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
    torch.set_num_threads(1)
    made = load_file("model_new.py", "ModelNew", "model_new")
    module = sys.modules["model_new"].__dict__
    built = made(*module["get_init_inputs"]() if "get_init_inputs" in module else ()).eval()
    own = module["get_inputs"]() if None in job["inputs"] else job["inputs"]
    given = [
        x if s is None else torch.zeros(s[0], dtype=getattr(torch, s[1]))
        for x, s in zip(own, job["inputs"], strict=True)
    ]
    with torch.no_grad():
        built(*given)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
