"""cluster.yaml and iam.yaml: groups of machines, which of them Ray starts for a request, and what they may do."""

import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray._private.label_utils import validate_node_label_syntax
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

from jobs.render import RenderJob
from jobs.train import Train
from tests.deployed import CLUSTER, DEPLOY, README, ROOT, commands, keys_of, rendering, started

# --- Groups ----------------------------------------------------------------------------------------------------


def group(name):
    return {key: one for key, one in CLUSTER["available_node_types"].items() if one["labels"]["group"] == name}


def market(node_type):
    return node_type["node_config"].get("InstanceMarketOptions", {}).get("MarketType", "on-demand")


def test_every_type_of_machine_says_its_group_and_its_market():
    for name, one in CLUSTER["available_node_types"].items():
        validate_node_label_syntax(one["labels"])
        assert set(one["labels"]) == {"group", "market"}
        assert one["labels"]["market"] == market(one), name


@pytest.mark.parametrize("name", ["features", "render"])
def test_a_group_has_two_instance_types_on_spot_and_comes_down_to_machines_on_demand(name):
    types = group(name).values()
    assert len({str(one["resources"]) for one in types}) == 1  # any of them serves a request
    spot = [one for one in types if market(one) == "spot"]
    assert len({one["node_config"]["InstanceType"] for one in spot}) >= 2
    [fallback] = [one for one in types if market(one) == "on-demand"]
    assert all(one["priority"] > fallback["priority"] for one in spot)


def test_no_gpu_runs_before_a_job_asks_for_it_and_one_type_has_eight():
    with_gpus = [one for one in CLUSTER["available_node_types"].values() if one["resources"].get("GPU")]
    assert {one["resources"]["GPU"] for one in with_gpus} == {1, 4, 8}
    assert all(one["min_workers"] == 0 and "gpu" in one["docker"]["worker_image"] for one in with_gpus)


def test_disks_are_encrypted():
    for one in CLUSTER["available_node_types"].values():
        assert [disk["Ebs"]["Encrypted"] for disk in one["node_config"]["BlockDeviceMappings"]] == [True]


# --- Which machines Ray starts ---------------------------------------------------------------------------------


def training(workers, cpus):
    return [{"CPU": float(cpus), "GPU": 1.0}] * workers


def test_a_planning_job_costs_no_gpu_and_the_documented_one_gets_the_documented_machines():
    assert started(CLUSTER, []) == {"features": 2}
    found = commands("render") + commands(r'submit --tries "\$1" --')
    assert len(found) == 2
    for command in found:
        job = keys_of(command, RenderJob)
        bundles = rendering(job.render.workers, job.render.num_cpus, job.features.workers)
        assert started(CLUSTER, bundles) == {"features": 2, "render": 4}


def test_a_type_that_did_not_come_up_or_is_at_its_limit_gives_way_to_the_next_of_its_group():
    assert started(CLUSTER, rendering(), ["render"]) == {"features": 2, "render-g5": 4}
    assert started(CLUSTER, rendering(), ["render", "render-g5"]) == {"features": 2, "render-on-demand": 4}
    assert started(CLUSTER, rendering(workers=10)) == {"features": 2, "render": 8, "render-g5": 2}
    many = rendering(features=20)
    assert started(CLUSTER, many) == {"features": 4, "features-m6i": 1, "render": 4}
    assert started(CLUSTER, many, ["features", "features-m6i"]) == {"features": 2, "features-on-demand": 3, "render": 4}


def test_sizes_choose_the_group():
    [command] = commands("train")
    job = keys_of(command, Train)
    assert started(CLUSTER, training(job.workers.number, job.workers.cpus)) == {"features": 2, "train": 1}
    assert started(CLUSTER, training(8, 12)) == {"features": 2, "train": 2}
    assert started(CLUSTER, training(8, 24)) == {"features": 2, "train-8gpu": 1}
    assert started(CLUSTER, rendering(4, 12)) == {"features": 2, "train": 1}
    assert started(CLUSTER, rendering(8, 20)) == {"features": 2, "train-8gpu": 1}
    for text in ("workers.number=8 workers.cpus=24", "render.num_cpus=12", "render.workers=8 render.num_cpus=20"):
        assert text in re.sub(r"\s+", " ", README)


def test_ray_takes_the_next_type_after_a_machine_that_did_not_start_but_not_after_a_refusal():
    """As the README tells (No spot machines): if a newer Ray answers otherwise, it may tell better news."""
    monitor = CloudResourceMonitor()
    monitor.notify([InstanceUpdateEvent(instance_type="render", new_instance_status=Instance.ALLOCATION_FAILED)])
    assert monitor.get_recoverable_resource_availabilities() == {}
    monitor.notify([InstanceUpdateEvent(instance_type="render", new_instance_status=Instance.ALLOCATION_TIMEOUT)])
    assert monitor.get_recoverable_resource_availabilities() == {"render": 0.0}


def test_the_readmes_command_puts_all_groups_on_demand_and_changes_nothing_else(tmp_path):
    [command] = {line.strip() for line in README.splitlines() if "on-demand.yaml" in line and "sed" in line}
    (tmp_path / "cluster.yaml").write_text((ROOT / "cluster.yaml").read_text())
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    changed = yaml.safe_load((tmp_path / "on-demand.yaml").read_text())
    jsonschema.validate(changed, json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text()))
    assert {market(one) for one in changed["available_node_types"].values()} == {"on-demand"}
    expected = json.loads(json.dumps(CLUSTER))
    for one in expected["available_node_types"].values():
        one["node_config"].pop("InstanceMarketOptions", None)
    assert changed == expected


# --- iam.yaml --------------------------------------------------------------------------------------------------


class CloudFormation(yaml.SafeLoader):
    """Reads !Ref X as {"Ref": X}, and its like."""


def _tagged(loader, tag, node):
    read = {"scalar": loader.construct_scalar, "sequence": loader.construct_sequence}[node.id]
    return {tag: read(node, deep=True) if node.id == "sequence" else read(node)}


CloudFormation.add_multi_constructor("!", _tagged)


def test_one_stack_serves_clusters_of_several_names_and_a_key_is_used_through_s3_alone():
    stack = yaml.load((DEPLOY / "iam.yaml").read_text(), CloudFormation)
    [policy] = stack["Resources"]["HeadRole"]["Properties"]["Policies"]
    [ends] = [one for one in policy["PolicyDocument"]["Statement"] if "ec2:TerminateInstances" in one["Action"]]
    assert ends["Condition"] == {"StringLike": {"aws:ResourceTag/ray-cluster-name": {"Ref": "Clusters"}}}
    pattern = stack["Parameters"]["Clusters"]["Default"]
    assert fnmatch(CLUSTER["cluster_name"], pattern)
    assert fnmatch("floatcast-night", pattern)
    assert not fnmatch("somebody-elses", pattern)
    assert stack["Parameters"]["KmsKey"]["Default"] == ""
    statements = stack["Resources"]["Storage"]["Properties"]["PolicyDocument"]["Statement"]
    [(condition, allowed, otherwise)] = [one["If"] for one in statements if "If" in one]
    assert condition in stack["Conditions"]
    assert (allowed["Action"], allowed["Resource"]) == (["kms:Decrypt", "kms:GenerateDataKey"], {"Ref": "KmsKey"})
    assert "kms:ViaService" in allowed["Condition"]["StringLike"]
    assert otherwise == {"Ref": "AWS::NoValue"}
