"""The first line of a job. What jobs import takes seconds, and until then a person would see nothing.

Therefore this imports nothing but the standard library, and a job calls it before its other imports.
"""

import sys
from collections.abc import Sequence

SLOW = ("benchmark", "evaluate", "prepare", "render", "train")
"""Jobs that import PyTorch, and that work for long."""


def first_line(job: str, arguments: Sequence[str] | None = None) -> None:
    """Say that a job begins, unless its arguments, by default those of the command line, only ask for help."""
    given = sys.argv[1:] if arguments is None else arguments
    if job in SLOW and not {"--help", "-h"} & set(given):
        print(f"{job}: loading PyTorch and other libraries ...", flush=True)
