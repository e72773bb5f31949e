"""Which test process runs which tests, and in which order: all tests on `local_ray` in one process, and first.

Each Ray costs 7 s of CPU to start and a thirtieth of a core for as long as it runs, whether it works or not.
`tests/conftest.py` takes these hooks.
"""

from pathlib import Path

import pytest

RAY = "ray"
"""The group, as `pytest.mark.xdist_group` names it: a test that asks for `local_ray` by `getfixturevalue` is marked."""


def on_ray(item):
    """Whether the test runs on `local_ray`."""
    return "local_ray" in item.fixturenames or any(mark.args == (RAY,) for mark in item.iter_markers("xdist_group"))


def pytest_collection_modifyitems(config, items):
    """The tests of the models last: they are many and short, so that no test process ends long after the others."""
    items.sort(key=lambda item: (not on_ray(item), item.path.is_relative_to(Path(__file__).with_name("models"))))
    if hasattr(config, "workerinput"):
        for item in filter(on_ray, items):
            item._nodeid += f"@{RAY}"  # as pytest-xdist does with its own groups


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Ray ends with the last test that runs on it."""
    yield
    if on_ray(item) and (nextitem is None or not on_ray(nextitem)):
        import ray

        ray.shutdown()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, but with the tests on Ray as one more file."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class RayTogether(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return RAY if nodeid.endswith(f"@{RAY}") else super()._split_scope(nodeid)

    return RayTogether(config, log)
