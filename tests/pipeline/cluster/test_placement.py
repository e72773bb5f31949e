"""Actors that need no GPU stay off the nodes that have one; what fits on no node is refused before anything starts."""

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from pipeline.cluster.placement import Demand, Node, nodes_of, place
from pipeline.cluster.pools import plan_pools
from pipeline.cluster.ray_data import RayExecutor, _demands
from pipeline.cluster.work_units import Unit
from pipeline.common.errors import ClusterError
from pipeline.common.stage import Pool, Resources, Stage
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.settings import RenderSettings
from tests import deployed


def shape(*groups):
    """Nodes of (number, CPUs, GPUs) each; an id tells the group."""
    return [Node(f"{g}-{i}", cpus, gpus) for g, (count, cpus, gpus) in enumerate(groups) for i in range(count)]


def groups_of(ids):
    return Counter(node_id.partition("-")[0] for node_id in ids)


def test_the_documented_shape_has_a_place_for_every_actor():
    nodes = shape((2, 16, 0), (4, 8, 1))
    demands = [Demand("feature", 8, 4, 0), Demand("render", 4, 7, 1), Demand("qc", 4, 1, 0)]
    features, render, qc = place(nodes, demands)
    assert groups_of(features) == {"0": 8}
    assert sorted(render) == ["1-0", "1-1", "1-2", "1-3"]
    assert groups_of(qc) == {"1": 4}  # no other node has room left


def test_what_needs_no_gpu_takes_the_others_first_and_is_spread():
    features, qc = place(shape((2, 8, 0), (1, 64, 8)), [Demand("feature", 4, 2, 0), Demand("qc", 2, 1, 0)])
    assert Counter(features) == {"0-0": 2, "0-1": 2}
    assert sorted(qc) == ["0-0", "0-1"]


def test_shares_of_a_gpu_are_packed_and_a_machine_alone_holds_all():
    features, render = place(shape((1, 16, 2)), [Demand("feature", 2, 1, 0.25), Demand("render", 1, 1, 1)])
    assert (len(features), len(render)) == (2, 1)


@pytest.mark.parametrize(
    ("groups", "demand", "message"),
    [
        (
            [(4, 4, 0)],
            Demand("feature", 2, 6, 0),
            r"2 feature actors with 6 CPUs and 0 GPUs each do not fit.*: only 0 do",
        ),
        (
            [(2, 8, 1)],
            Demand("render", 3, 1, 1),
            r"3 render actors .*: only 2 do.* have 8 CPUs and 1 GPUs, 8 CPUs and 1",
        ),
    ],
)
def test_what_fits_on_no_node_is_refused_with_what_the_nodes_have(groups, demand, message):
    with pytest.raises(ClusterError, match=message):
        place(shape(*groups), [demand])


def test_a_head_without_cpus_and_a_dead_node_take_no_actor():
    described = [
        {"NodeID": "head", "Alive": True, "Resources": {"memory": 1.0}},
        {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 64.0}},
        {"NodeID": "here", "Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
    ]
    assert [(node.id, node.cpus, node.gpus) for node in nodes_of(described)] == [("here", 2.0, 1.0)]


CLUSTER = """
import json, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table
from pipeline.cluster.ray_data import RayExecutor
from pipeline.cluster.work_units import Unit
from pipeline.common.errors import ClusterError
from pipeline.common.stage import Pool, Resources, Stage
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings
from tests.clusters import HEAD

class Where(Stage):
    def __init__(self, name, cpus, gpus):
        self.name, self.resources = name, Resources(cpus, gpus)
    def process(self, items):
        time.sleep(0.2)
        yield from [item | {self.name: ray.get_runtime_context().get_node_id()} for item in items]

nodes, features, render = json.loads(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args=HEAD | {"num_cpus": 0, "object_store_memory": 80_000_000})
def add(node):
    cluster.add_node(num_cpus=node[0], num_gpus=node[1], object_store_memory=80_000_000)
for node in nodes[:-1]:
    add(node)
ray.init(cluster.address, logging_level="error")
executor = RayExecutor()
def pools(minutes, **more):
    return executor.pools(FeatureSettings(**features), EngineSettings(**render, **more), QcSettings(), minutes)
def asked():
    "Bundles of the groups that wait for nodes: what an autoscaler looks at."
    groups = [group for group in placement_group_table().values() if group["state"] == "PENDING"]
    return [bundle for group in groups for bundle in group["bundles"].values()]

try:
    pools(0.02, num_gpus=1)
    sys.exit("a cluster without its last node was taken")
except ClusterError as error:
    print("refused:", error)
print("asked for afterwards:", asked())
waiting = threading.Thread(target=lambda: print("got", pools(5, num_gpus=1).describe()))
waiting.start()
while not asked():
    time.sleep(0.1)
print("asked for while waiting:", asked())
add(nodes[-1])
waiting.join()
print("asked for afterwards:", asked())

found = pools(0)
gpus = {node["NodeID"]: node["Resources"].get("GPU", 0) for node in ray.nodes()}
stages = [
    Pool(Where("features", found.features.num_cpus, 0), found.features.workers),
    Pool(Where("render", found.render.num_cpus, found.render.num_gpus), found.render.workers),
    Pool(Where("qc", found.qc.num_cpus, 0), found.qc.workers),
]
rows = list(executor.run([Unit([{"i": i}]) for i in range(24)], stages))
used = {stage: sorted({gpus[row[stage]] for row in rows}) for stage in ("features", "render", "qc")}
print(json.dumps([len(rows), len({row["render"] for row in rows}), used]))
ray.shutdown()
cluster.shutdown()
"""


def documented(name):
    """(nodes, as pairs of CPUs and GPUs; settings of the features; of rendering) of one of the deployment files."""
    if name == "cluster.yaml":
        [command, *_] = deployed.commands("render")
        types = deployed.CLUSTER["available_node_types"]
        has = [(types[kind]["resources"]["CPU"], types[kind]["resources"].get("GPU", 0)) for kind in SHAPE]
    else:
        command = deployed.RAYJOB["spec"]["entrypoint"]
        groups = {group["groupName"]: group for group in deployed.RAYJOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]}
        limits = [groups[kind]["template"]["spec"]["containers"][0]["resources"]["limits"] for kind in SHAPE]
        has = [(int(limit["cpu"]), int(limit.get("nvidia.com/gpu", 0))) for limit in limits]
    job = deployed.keys_of(command, RenderSettings)
    features = {"workers": job.features.workers, "num_cpus": job.features.num_cpus}
    render = {"workers": job.render.workers, "num_cpus": job.render.num_cpus}
    nodes = [has[0]] * 2 + [has[1]] * job.render.workers
    return nodes, features, render


SHAPE = ("features", "render")


@pytest.mark.parametrize("name", ["cluster.yaml", "rayjob.yaml"])
def test_the_documented_shapes_have_a_place_for_every_actor_and_none_without_a_gpu_is_beside_one(name):
    nodes, features, render = documented(name)
    machines = [Node(f"{'gpu' if gpus else 'cpu'}-{i}", cpus, gpus) for i, (cpus, gpus) in enumerate(nodes)]
    have = {"CPU": sum(cpus for cpus, _ in nodes), "GPU": sum(gpus for _, gpus in nodes)}
    beside = sum(cpus for cpus, gpus in nodes if gpus)
    settings = FeatureSettings(**features), EngineSettings(**render), QcSettings()
    pools = plan_pools(*settings, have, cpus_of_gpu_nodes=beside)
    assert pools.render.workers == 4
    places = place(machines, _demands(pools))
    assert [set(groups_of(found)) for found in places] == [{"cpu"}, {"gpu"}, {"cpu"}]
    assert len(set(places[1])) == 4


@pytest.mark.slow
def test_a_job_waits_for_a_cluster_as_documented_and_then_no_cpu_actor_is_on_a_gpu_node_and_all_render_actors_run():
    """On half of it: one of the two nodes without a GPU, two of the four with one, and half of the workers."""
    nodes, features, render = documented("cluster.yaml")
    half = [features | {"workers": features["workers"] // 2}, render | {"workers": render["workers"] // 2}]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", CLUSTER, json.dumps([nodes[::2], *half])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "refused: the cluster has 24 CPUs, but the job needs 26" in done.stdout
    assert "waiting for nodes: the cluster has 24 CPUs" in done.stdout
    assert re.search(r"got 3 feature actors \(4 CPUs? each\), 2 render actors", done.stdout)
    while_waiting = done.stdout.split("asked for while waiting:")[1].splitlines()[0]
    assert (while_waiting.count("'CPU': 4"), while_waiting.count("'CPU': 7"), while_waiting.count("'GPU': 1")) == (
        3,
        2,
        2,
    )
    assert done.stdout.count("asked for afterwards: []") == 2
    clips, renderers, used = json.loads(done.stdout.splitlines()[-1])
    assert (clips, renderers) == (24, 2)
    assert used == {"features": [0], "render": [1.0], "qc": [0]}


@pytest.mark.slow
def test_a_cluster_that_has_become_too_small_since_it_was_checked_still_does_the_work(local_ray, caplog):
    stage = Echo()
    rows = list(RayExecutor().run([Unit([i]) for i in range(3)], [Pool(stage, int(local_ray["CPU"] // 2))]))
    assert sorted(rows) == [0, 1, 2]
    assert "Ray places the actors of this execution: 2 echo actors with 3 CPUs" in caplog.text


class Echo(Stage):
    """Takes most of the CPUs of the node, so that two workers do not fit."""

    name, resources = "echo", Resources(3)

    def process(self, items):
        yield from items
