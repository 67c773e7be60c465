"""`python -I -S launch.py JAIL PROGRAM ARGUMENTS`: confine this process, then become PROGRAM."""

import json
import os
import signal
import sys

if __name__ == "__main__":
    # Run as a file, without site packages: it starts in a few hundredths of a second.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from epitaxy import sandbox

    try:
        sandbox.confine(**json.loads(sys.argv[1]), programs=True)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, a program must not
            signal.signal(number, signal.SIG_DFL)
        os.execv(sys.argv[2], sys.argv[2:])
    except Exception as error:
        print(error)
        sys.exit(sandbox.NOT_LAUNCHED)
