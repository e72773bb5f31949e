"""Work for child processes of tests (`pipeline.common.child`); imports nothing that takes time."""

import os
import re


def raises(kind, *arguments):
    """An exception."""
    raise kind(*arguments)


def spin(file):
    """Write the number of this process into `file`, and never end: in C, with Python's lock."""
    with open(f"{file}.new", "w") as new:
        new.write(str(os.getpid()))
    os.replace(f"{file}.new", file)
    re.match("(a+)+$", "a" * 64 + "b")  # exponential


def die_once(file):
    """Crash, and be alive the second time."""
    if not os.path.exists(file):
        open(file, "w").close()
        os.abort()
    return "alive"
