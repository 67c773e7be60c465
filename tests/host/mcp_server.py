"""The real server for a test: the command line as it is, but for eager as the only baseline."""

import sys

from epitaxy.cli import main
from epitaxy.machines.local import LocalMachine

LocalMachine.baselines = lambda self: ["eager"]
sys.exit(main(["mcp", *sys.argv[1:]]))
