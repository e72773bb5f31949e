"""Which node each actor runs on: if possible, actors that need no GPU stay off the nodes that have one.

By default Ray Data spreads the actors of each stage over all nodes, in the order of the stages. Feature actors then
take the CPUs of GPU nodes, and render actors wait for ever. Here the pools are packed per node before anything starts:
first those with GPUs, and then those without, on nodes without GPUs as long as there is room.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.common.errors import ClusterError

ROUNDING = 1e-4
"""Ray counts in units of 1/10000."""


@dataclass
class Node:
    """A node and its free resources."""

    id: str
    cpus: float
    gpus: float
    actors: int = 0
    has_gpus: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_gpus = self.gpus > 0

    def holds(self, cpus: float, gpus: float) -> bool:
        """Whether there is room for an actor. A share of a GPU fits into a single one."""
        return self.cpus + ROUNDING >= cpus and self.gpus + ROUNDING >= gpus


@dataclass(frozen=True)
class Demand:
    """The actors of one pool, and the resources that each of them takes."""

    name: str
    actors: int
    cpus: float
    gpus: float


def nodes_of(described: Iterable[dict[str, Any]]) -> list[Node]:
    """The live nodes of `ray.nodes()` that compute; a head without CPUs only runs the cluster's own processes."""
    resources = [(node["NodeID"], node["Resources"]) for node in described if node["Alive"]]
    nodes = [Node(name, float(has.get("CPU", 0)), float(has.get("GPU", 0))) for name, has in resources]
    return [node for node in nodes if node.cpus or node.gpus]


def place(nodes: Sequence[Node], demands: Sequence[Demand]) -> list[list[str]]:
    """Node ids for the actors of each pool, in the order of `demands`; reduces the free resources of the nodes.

    Raises ClusterError, which names the first pool that does not fit and what the nodes have.
    """
    before = ", ".join(sorted(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes))
    found: dict[int, list[str]] = {}
    for index in sorted(range(len(demands)), key=lambda i: (-demands[i].gpus, -demands[i].cpus)):
        demand = demands[index]
        found[index] = []
        for _ in range(demand.actors):
            room = [node for node in nodes if node.holds(demand.cpus, demand.gpus)]
            if not room:
                raise ClusterError(
                    f"{demand.actors} {demand.name} actors with {demand.cpus:g} CPUs and {demand.gpus:g} GPUs each do "
                    f"not fit on the nodes next to the other actors: only {len(found[index])} do. An actor cannot be "
                    f"spread over nodes, which have {before}. Lower the number or the size of actors, or add nodes"
                )
            # The node with the most free resources spreads a pool; without a GPU if the actor needs none.
            node = max(
                room, key=lambda node: (not node.has_gpus or demand.gpus > 0, node.gpus, node.cpus, -node.actors)
            )
            node.cpus -= demand.cpus
            node.gpus -= demand.gpus
            node.actors += 1
            found[index].append(node.id)
    return [found[index] for index in range(len(demands))]


class Strategies:
    """Remote arguments for one actor after another, without an end, so that replacements of dead actors get some too.

    If a node is gone, or another job has filled it, Ray chooses another node.
    """

    def __init__(self, node_ids: Sequence[str]) -> None:
        self._node_ids, self._next = node_ids, 0

    def __call__(self) -> dict[str, Any]:
        """The arguments of the next actor."""
        if not self._node_ids:
            return {}
        node_id = self._node_ids[self._next % len(self._node_ids)]
        self._next += 1
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=True, _spill_on_unavailable=True)}
