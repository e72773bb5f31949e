"""The nodes of a cluster: check whether it has what a job needs, and wait until it does."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import ray
from ray.autoscaler.sdk import request_resources

from pipeline.common.errors import ClusterError

T = TypeVar("T")


def wait_for_nodes(
    plan: Callable[[dict[str, float]], T], minutes: float, bundles: Sequence[dict[str, float]] = ()
) -> T:
    """Call `plan` with the resources of the connected cluster, and retry for `minutes` while it raises ClusterError.

    An autoscaling cluster is asked for `bundles`, which are the resources of one actor each.
    """
    asks = bool(minutes and bundles)
    if asks:
        request_resources(bundles=list(bundles))
    end = time.monotonic() + minutes * 60
    try:
        while True:
            try:
                return plan(ray.cluster_resources())
            except ClusterError as error:
                if time.monotonic() >= end:
                    raise
                print(f"waiting for nodes: {str(error).split(':')[0]}", flush=True)
                time.sleep(min(10.0, max(0.1, end - time.monotonic())))
    finally:
        if asks:  # a request would outlive its job and keep the nodes for ever; from here on the actors keep them
            request_resources(bundles=[])
