"""Which test process runs which tests, and in which order: all tests on `local_ray` in one process, and first.

Each Ray costs 7 s of CPU to start and a thirtieth of a core for as long as it runs, whether it works or not.
`tests/conftest.py` takes these hooks.
"""

import os
import tempfile
from functools import cached_property
from pathlib import Path

import pytest

RAY = "ray"
"""The group, as `pytest.mark.xdist_group` names it: a test that asks for `local_ray` by `getfixturevalue` is marked."""

LISTED = "tests_on_ray"
"""File in which a test process tells the one that distributes the tests which of them these are."""


def on_ray(item):
    """Whether the test runs on `local_ray`."""
    return "local_ray" in item.fixturenames or any(mark.args == (RAY,) for mark in item.iter_markers("xdist_group"))


def pytest_collection_modifyitems(config, items):
    """The tests of the models last: they are many and short, so that no test process ends long after the others."""
    items.sort(key=lambda item: (not on_ray(item), item.path.is_relative_to(Path(__file__).with_name("models"))))
    if hasattr(config, "workerinput"):
        made = Path(f"{config.workerinput[LISTED]}.{os.getpid()}")
        made.write_text("\n".join(item.nodeid for item in filter(on_ray, items)))
        made.replace(config.workerinput[LISTED])  # all processes write the same


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Ray ends with the last test that runs on it."""
    yield
    if on_ray(item) and (nextitem is None or not on_ray(nextitem)):
        import ray

        ray.shutdown()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput[LISTED] = _listed()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, but with the tests on Ray as one more file."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class RayTogether(LoadFileScheduling):
        @cached_property
        def _on_ray(self):
            file = Path(_listed())
            lines = file.read_text().splitlines()
            file.unlink()
            return set(lines)

        def _split_scope(self, nodeid):
            return RAY if nodeid in self._on_ray else super()._split_scope(nodeid)

    return RayTogether(config, log)


def _listed():
    return f"{tempfile.gettempdir()}/{LISTED}.{os.getpid()}"
