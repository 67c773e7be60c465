"""ask.py SOCKET FOLDER: what the judge says of the candidate in FOLDER; exit code 1 where it is not
correct, 2 where it cannot be judged."""

import json
import os
import socket
import sys

if len(sys.argv) != 3:
    sys.exit('{"error": "name one folder", "mend": "./judge FOLDER"}')
with socket.socket(socket.AF_UNIX) as judge:
    judge.connect(sys.argv[1])
    judge.sendall(json.dumps({"folder": os.path.abspath(sys.argv[2])}).encode() + b"\n")
    told = judge.makefile().readline()
print(told, end="")
found = json.loads(told)
sys.exit(2 if "error" in found else int(not found["correct"]))
