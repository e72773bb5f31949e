"""Tests on Ray run in one process and before the others, whichever files they are in."""

import re
from pathlib import Path

import pytest

pytest_plugins = "pytester"

TESTS = """
import pytest

@pytest.fixture
def local_ray():
    pass

def test_quick():
    pass

def test_on_ray(local_ray):
    pass

@pytest.mark.xdist_group("ray")
def test_marked(request):
    request.getfixturevalue("local_ray")
"""


@pytest.mark.slow
def test_tests_on_ray_run_in_one_process_and_first(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makepyfile(**{f"test_{name}": TESTS for name in "abcd"})
    done = pytester.runpytest_subprocess("-v", "-p", "tests.scheduling", "-n", "2", "--dist", "loadfile")
    done.assert_outcomes(passed=12)
    ran = re.findall(r"\[(gw\d)\].* PASSED (\S+)", done.stdout.str())
    on_ray = [(process, test) for process, test in ran if not test.endswith("test_quick")]
    assert len(on_ray) == 8
    (process,) = {process for process, _ in on_ray}
    assert [test for of, test in ran if of == process][:8] == [test for _, test in on_ray]
