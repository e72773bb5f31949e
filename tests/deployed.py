"""Readers of the deployment files: cluster.yaml and what is in jobs/deploy."""

import re
import shlex
from pathlib import Path

import yaml
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest

from jobs.cli.config import load_config

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "jobs" / "deploy"
README = (DEPLOY / "README.md").read_text()
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())
RAYJOB = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
LOCKS = {name: DEPLOY / f"requirements-{name}.lock" for name in ("cpu", "gpu")}


def block(language, word):
    """The one code block of the README that contains a word."""
    [found] = [code for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if word in code]
    return found


def keys_of(command, job):
    """The settings that a command line gives to a job."""
    return load_config(job, [word for word in shlex.split(command) if re.match(r"[a-z_.]+=", word)])


def commands(name):
    """Command lines of the README that give sizes to a job."""
    text = re.sub(r"\\\n", " ", README)
    return [line for line in re.findall(rf"-m jobs\.{name} (.*=.*)", text) if "wait_minutes" in line]


def pins(lock):
    """Name -> version of a lock file, every line of which names one exact version."""
    lines = [line for line in LOCKS[lock].read_text().splitlines() if not line.startswith("--")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+", line) for line in lines)
    return dict(line.split("==") for line in lines)


def started(cluster, bundles, failed=()):
    """Machines that Ray's autoscaler would start for a request; `failed` are types that did not come up just now."""
    types = {
        name: NodeTypeConfig(
            name=name,
            min_worker_nodes=one["min_workers"],
            max_worker_nodes=one["max_workers"] + (name == cluster["head_node_type"]),
            priority=one.get("priority", 0),
            resources=one["resources"],
            labels=one["labels"],
            launch_config_hash="",
        )
        for name, one in cluster["available_node_types"].items()
    }
    # A job that waits asks by a placement group (pipeline.cluster.nodes).
    asked = [GangResourceRequest(requests=[ResourceRequestUtil.make(bundle) for bundle in bundles])] if bundles else []
    lost = dict.fromkeys(failed, 0.0)
    answer = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types,
            max_num_nodes=cluster["max_workers"] + 1,
            gang_resource_requests=asked,
            recoverable_resource_availabilities=lost,
            cloud_resource_availabilities=lost,
        )
    )
    assert not answer.infeasible_gang_resource_requests
    return {one.instance_type: one.count for one in answer.to_launch}


def rendering(workers=4, cpus=7.0, features=7):
    return [{"CPU": 4.0}] * features + [{"CPU": cpus, "GPU": 1.0}] * workers
