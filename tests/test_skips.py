import pytest

pytest_plugins = "pytester"

TESTS = """
import pytest

@pytest.mark.skipif(True, reason="needs a GPU")
def test_of_hardware():
    pass

def test_of_a_program():
    pytest.skip("no Chromium here: apt-get install chromium")

@pytest.mark.xfail
def test_that_fails_and_may():
    raise ValueError

def test_that_passes():
    pass
"""


@pytest.mark.parametrize(("ci", "outcomes"), [("", {"skipped": 3}), ("true", {"skipped": 1, "failed": 1, "errors": 1})])
def test_with_ci_set_only_hardware_may_be_missing(pytester, monkeypatch, ci, outcomes):
    monkeypatch.setenv("CI", ci)
    pytester.makepyfile(test_parts=TESTS, test_whole="import pytest\npytest.importorskip('no_such_package')")
    done = pytester.runpytest_inprocess("-p", "tests.skips", "--continue-on-collection-errors", "-ra")
    done.assert_outcomes(passed=1, xfailed=1, **outcomes)
    done.stdout.fnmatch_lines("*: needs a GPU")
    if ci:
        done.stdout.fnmatch_lines(["*skipped (could not import 'no_such_package'*", "*skipped (no Chromium here: *"])
