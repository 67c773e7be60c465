"""A script in a coding agent's place, run in a folder with TASK.md: it needs no model."""

import json
import re
import subprocess
import sys
from pathlib import Path

ANSWER = Path("answer")
TORCH = """
import torch
class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.arange(256.0))
    def forward(self, x):
        return torch.add(x, self.bias)
"""


task = Path("TASK.md").read_text()
assert sys.stdin.read() == task
ANSWER.mkdir()
if Path(".mcp.json").exists():
    server = json.loads(Path(".mcp.json").read_text())["mcpServers"]["epitaxy"]
    print(json.dumps(server["args"]))
    (ANSWER / "model_new.py").write_text(TORCH)
else:
    for name, text in re.findall(r"`(\S+)`:\n\n```\w+\n(.*?)```", task, re.DOTALL):
        (ANSWER / name).write_text(text)
    found = subprocess.run(["./judge", "answer"], capture_output=True, text=True)
    print(found.stdout or found.stderr[-2000:])
usage = {"input_tokens": 700, "cache_read_input_tokens": 200, "output_tokens": 100}
print(json.dumps({"type": "result", "usage": usage, "total_cost_usd": 0.25}))
