"""What all test processes of a run share: the first that needs it makes it, and the others wait and take it.

What is made is only for reading: a test that changes it copies it.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def folder_of_the_run(factory: pytest.TempPathFactory, name: str) -> Path:
    """The folder `name`, which is the same for all processes of this run."""
    root = factory.getbasetemp()  # each process of pytest-xdist has one, in a folder of the run
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """`folder_of_the_run`, filled by `make`.

    If it fails, or its process dies, the next process that needs it begins anew.
    """
    folder = folder_of_the_run(factory, name)
    whole = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not whole.exists():
            shutil.rmtree(folder)
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder
