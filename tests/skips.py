"""Where CI is set, a test may be skipped for want of hardware alone: no set of tests can be lost without a word.

`tests/conftest.py` takes these hooks.
"""

import os
from collections.abc import Iterator

import pytest

HARDWARE = ("needs a GPU", "needs a machine without NVENC", "PyTorch is installed in a folder with a space")
"""What a reason may begin with. PyTorch cannot compile from such a folder, which is where the environment was made."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Of each test."""
    return _checked((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Of each module, which may skip itself."""
    return _checked((yield))


def _checked(report):
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(HARDWARE):
            report.outcome = "failed"
            report.longrepr = f"skipped ({reason}), but with CI set only tests that want hardware may be skipped"
    return report
