"""`python -I -S child.py LIBRARY CHANNEL SHARED JAIL`: confine this process, then serve a pair.

The library holds the two kernels and the driver that calls them; it is loaded only in the jail.
"""

import ctypes
import json
import os
import sys

if __name__ == "__main__":
    # Run as a file, without site packages: it starts in a few hundredths of a second.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from epitaxy import sandbox

    library, channel, shared, jail = sys.argv[1:]
    if jail:
        sandbox.confine(**json.loads(jail))
    serve = ctypes.CDLL(library).explore_serve
    sys.exit(serve(int(channel), int(shared)))
