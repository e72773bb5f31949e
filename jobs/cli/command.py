"""The program `floatcast`: `floatcast render key=value ...` is `python -m jobs.render key=value ...`, for every job.

It also works in a folder that contains a `models`, `pipeline` or `jobs` of its own, which `python -m` would use instead
of ours.
"""

import ast
import difflib
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import jobs
from jobs.cli.exit_codes import fail
from jobs.cli.first_line import first_line
from pipeline import __version__
from pipeline.common.terminal import filter_output
from pipeline.run.exit_codes import DONE, REFUSED

RESEARCH = "research"
"""Jobs that exist in a checkout, but not in the wheel."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job named by the first argument with the other arguments; returns its exit code."""
    filter_output()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("--help", "-h"):
        print(_help())
        return DONE if arguments else REFUSED
    if arguments[0] == "--version":
        print(f"floatcast {__version__}")
        return DONE
    name, known = arguments[0], names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        return fail(f"there is no job called {name!r}: {guess}floatcast --help lists all jobs", REFUSED)
    first_line(name, arguments[1:])
    return importlib.import_module(f"jobs.{name}").main(arguments[1:])


def names() -> list[str]:
    """Names of the installed jobs, research jobs last."""
    found = [module.name for module in pkgutil.iter_modules(jobs.__path__)]
    own = [name for name in found if name not in ("bench", "cli", RESEARCH)]
    if RESEARCH not in found:
        return own
    package = importlib.import_module(f"jobs.{RESEARCH}")
    return own + [f"{RESEARCH}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]


def _help() -> str:
    lines = ["floatcast JOB [key=value ...]", ""]
    lines += [f"  {name:20}{_sentence(name)}" for name in names()]
    lines += [
        "",
        (
            "floatcast JOB --help lists the keys of a job, and floatcast --version prints the version. python -m "
            "jobs.JOB is the same."
        ),
    ]
    return "\n".join(lines)


def _sentence(name: str) -> str:
    """First sentence of a job's docstring, read without importing the job, which would take seconds for all of them."""
    spec = importlib.util.find_spec(f"jobs.{name}")
    assert spec is not None
    assert spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or ""
    return text.splitlines()[0].split(": `")[0].rstrip(".")
