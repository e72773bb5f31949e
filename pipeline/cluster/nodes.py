"""The nodes of a cluster: check whether it has what a job needs, and wait until it does."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import ray
import yaml
from ray.util.placement_group import placement_group, remove_placement_group

from pipeline.common.errors import ClusterError

T = TypeVar("T")

BOOTSTRAP_CONFIG = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster's configuration on its head, where submitted jobs run."""


def wait_for_nodes(
    plan: Callable[[dict[str, float]], T], minutes: float, bundles: Sequence[dict[str, float]] = ()
) -> T:
    """Call `plan` with the resources of the connected cluster, and retry for `minutes` while it raises ClusterError.

    Meanwhile a placement group asks for `bundles`, the resources of one actor each, which makes an autoscaling cluster
    start nodes. Unlike `request_resources`, it leaves the requests of other jobs alone.
    """
    end = time.monotonic() + minutes * 60
    with contextlib.ExitStack() as stack:
        while True:
            try:
                return plan(ray.cluster_resources())
            except ClusterError as error:
                if time.monotonic() >= end:
                    raise
                print(f"waiting for nodes: {str(error).split(':')[0]}", flush=True)
            if bundles:
                # It goes before the actors start, which need what it holds. An idle node stays for minutes.
                stack.callback(remove_placement_group, placement_group(list(bundles), strategy="PACK"))
                bundles = ()
            time.sleep(min(10.0, max(0.1, end - time.monotonic())))


def this_node() -> dict[str, float]:
    """`resource_of` the node of this process."""
    return resource_of(ray.get_runtime_context().get_node_id())


def resource_of(node_id: str) -> dict[str, float]:
    """A resource that only this node has, in an amount that is never missing.

    Ray places an actor that needs no resources on any node, whatever its node affinity says.
    """
    [found] = [node for node in ray.nodes() if node["NodeID"] == node_id]
    [name] = [name for name in found["Resources"] if name.startswith("node:") and name != "node:__internal_head__"]
    return {name: 0.001}


def can_start_gpus() -> bool:
    """Whether the cluster has node types with GPUs that it could start, as far as it can be known.

    A platform may have told Ray, and `ray up` leaves the node types on the head. KubeRay's groups are unknown here.
    """
    told = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return told.get("GPU", 0) > 0 or any(_with_gpus(kind) for kind in _node_types())


def _node_types() -> list[dict[str, object]]:
    path = BOOTSTRAP_CONFIG.expanduser()
    try:
        config = yaml.safe_load(path.read_text()) if os.access(path, os.R_OK) else {}
    except (OSError, yaml.YAMLError):
        return []
    types = config.get("available_node_types") if isinstance(config, dict) else None
    return [kind for kind in types.values() if isinstance(kind, dict)] if isinstance(types, dict) else []


def _with_gpus(kind: dict[str, object]) -> bool:
    resources = kind.get("resources")
    has = isinstance(resources, dict) and resources.get("GPU", 0) > 0
    return has and kind.get("max_workers") != 0
