"""Memory of this process, as Linux counts it."""

from collections.abc import Callable
from pathlib import Path


def growth(action: Callable[[], object]) -> float:
    """MB by which this process grew at most while `action` ran."""
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far is forgotten
    before = _megabytes("VmRSS")
    action()
    return _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    """VmRSS (now) or VmHWM (largest)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3
