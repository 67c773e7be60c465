"""Record a session of the agent: `python tests/host/agent_record.py PAGE.md`.

Everything is real (grower, compiler, sandbox, judge, export, the protocol on loopback) but the
model: a server says its part from a script. The page says so.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

from scripted_model import Asked, Server, Step

from epitaxy.cli import main
from epitaxy.machines.local import LocalMachine

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "softmax.py"
HEAD = """# A session of the agent

**The model's part is played from a script**, by a server on loopback that speaks Anthropic's
protocol (`tests/host/agent_record.py`): this shows how the loop works, not what a model can do.
The rest is real: the grower's start, the compiler, the sandbox, the judge and its times, here on a
busy machine of two cores against eager PyTorch alone, so that recording is quick.

```text
$ epitaxy optimize examples/softmax.py --with agent --model anthropic/claude-sonnet-4-5 --budget 7
```

"""
TAIL = """
## What the command left

```text
{summary}
```

Files: {files}.
"""


class Script:
    """What the model says, step by step; it edits the kernel that it is shown."""

    def __init__(self) -> None:
        self.step = 0

    def kernel(self, asked: Asked) -> str:
        """The kernel of the opening message."""
        found = re.search(r"## kernel\.cpp\n\n```\n(.*?)\n```", asked.first, re.DOTALL)
        assert found is not None
        return found[1]

    def __call__(self, asked: Asked) -> Step:
        """The next step."""
        self.step += 1
        steps = (self.look, self.typo, self.cheat, self.edit, self.sweep)
        if self.step > len(steps):
            reason = "the script has no more to try"
            return Step(calls=[("finish", {"reason": reason})])
        return steps[self.step - 1](asked)

    def look(self, asked: Asked) -> Step:
        """Read before writing."""
        text = "First what limits this problem, and what is known to pay on this chip."
        return Step(text=text, calls=[("problem_card", {}), ("lessons", {"most": 3})])

    def typo(self, asked: Asked) -> Step:
        """A kernel that does not build."""
        kernel = self.kernel(asked).replace("epx::exp_fast(", "epx::exp_quick(", 1)
        return self.judge("Exponentials dominate: a quicker one.", kernel, "a quicker exponential")

    def cheat(self, asked: Asked) -> Step:
        """A kernel that reaches for the system."""
        head = '#include <fstream>\nstatic std::ifstream maps("/proc/self/maps");\n'
        text = "There is no such function. Let me see what the process holds."
        return self.judge(text, head + self.kernel(asked), "look at the process")

    def edit(self, asked: Asked) -> Step:
        """An honest edit."""
        kernel = self.kernel(asked)
        other = ("put(tail, y0", "put_stream(tail, y0")
        old, new = other if "put_stream(tail, y0" not in kernel else other[::-1]
        text = "That is refused. Stores are a third of the traffic: try the other kind of store."
        return self.judge(text, kernel.replace(old, new), "the other kind of store")

    def sweep(self, asked: Asked) -> Step:
        """A sweep by the grower."""
        vary = {"region0.unroll": [2, 8]}
        text = "Now let the grower vary how far the loops are unrolled."
        return Step(text=text, calls=[("grow", {"vary": vary, "count": 2})])

    @staticmethod
    def judge(text: str, kernel: str, intent: str) -> Step:
        """A call of `judge`."""
        files = [{"name": "kernel.cpp", "text": kernel + "\n"}]
        return Step(text=text, calls=[("judge", {"files": files, "intent": intent})])


def record(page: Path) -> int:
    """Run the session and write the page; the command's exit code."""
    said = io.StringIO()
    LocalMachine.baselines = lambda self: ["eager"]
    with tempfile.TemporaryDirectory() as folder, Server(Script()) as server:
        os.environ["ANTHROPIC_API_KEY"] = "the-script-needs-none"
        os.environ["ANTHROPIC_BASE_URL"] = server.url
        ledger, out = f"{folder}/ledger.sqlite", f"{folder}/out"
        options = ["--with", "agent", "--model", "anthropic/claude-sonnet-4-5"]
        limits = ["--budget", "7", "--ledger", ledger, "--out", out]
        with contextlib.redirect_stdout(said):
            code = main(["optimize", str(EXAMPLE), *options, *limits])
        summary = said.getvalue().replace(folder, "epitaxy-out")
        said.truncate(said.seek(0))
        with contextlib.redirect_stdout(said):
            main(["transcript", str(EXAMPLE), "--ledger", ledger])
        files = sorted(str(p.relative_to(out)) for p in Path(out).rglob("*") if p.is_file())
    shown = ", ".join(f"`{name}`" for name in files)
    text = HEAD + said.getvalue() + TAIL.format(summary=_even(summary), files=shown)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
    return code


def _even(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


if __name__ == "__main__":
    sys.exit(record(Path(sys.argv[1])))
