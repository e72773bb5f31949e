"""Heads of clusters of several nodes, without the processes of Ray that no test there needs."""

from typing import Any

HEAD: dict[str, Any] = {
    "include_dashboard": False,
    "no_monitor": True,  # there is no autoscaler to tell what is asked for; the tests ask Ray for it
    "include_log_monitor": False,  # what workers print stays in Ray's files
    # A lost node is known after five checks that are refused: in seconds instead of a quarter of a minute. One that
    # only answers late has 10 s for each, as before.
    "_system_config": {"health_check_period_ms": 500},
}
"""Arguments of a head beside its CPUs. Each of the three parts that are left out takes a second of CPU to start."""
