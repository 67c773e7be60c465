"""`python -m epitaxy.worker DESCRIPTOR`: a zygote on an inherited socket."""

import socket
import sys

from epitaxy.worker import zygote

zygote.serve(socket.socket(fileno=int(sys.argv[1])))
