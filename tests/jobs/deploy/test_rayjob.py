"""rayjob.yaml, its queue and its schedules, and how a run ends on Kubernetes; on a real Ray head in `test_deploy`."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.version import Version
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from jobs import rayjob as rayjob_command
from jobs.render import RenderJob
from jobs.submit import ENDED
from tests.deployed import DEPLOY, RAYJOB, README, ROOT, block, keys_of, rendering, started


def kuberay_takes(manifest):
    """KubeRay's types, and what its operator checks beyond them (ValidateRayJobSpec and ValidateRayClusterSpec)."""
    schema = json.loads((ROOT / "tests" / "data" / "rayjob.schema.json").read_text())
    jsonschema.validate(manifest, schema)
    spec = manifest["spec"].get("jobTemplate", manifest["spec"])
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    ray_cluster = spec["rayClusterSpec"]
    assert not (rules and spec.get("shutdownAfterJobFinishes"))
    assert spec.get("shutdownAfterJobFinishes") or not spec.get("ttlSecondsAfterFinished")
    scales = ray_cluster.get("enableInTreeAutoscaling")
    assert not (scales and "DeleteWorkers" in [rule["policy"] for rule in rules])
    assert ray_cluster["authOptions"]["mode"] != "token" or Version(ray_cluster["rayVersion"]) >= Version("2.52.0")
    for workers in ray_cluster["workerGroupSpecs"]:
        assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
        assert "labels" not in workers["rayStartParams"]


def pods():
    """(name, most pods, the pod's spec) of the head and of each group."""
    spec = RAYJOB["spec"]["rayClusterSpec"]
    workers = [(one["groupName"], one["maxReplicas"], one["template"]["spec"]) for one in spec["workerGroupSpecs"]]
    return [("head", 1, spec["headGroupSpec"]["template"]["spec"]), *workers]


def amount(quantity):
    number, unit = re.fullmatch(r"([\d.]+)(m|Gi|Mi)?", str(quantity)).groups()
    return float(number) * {None: 1, "m": 1e-3, "Gi": 2**30, "Mi": 2**20}[unit]


def test_kuberay_takes_the_job_and_workers_go_first():
    kuberay_takes(RAYJOB)
    spec = RAYJOB["spec"]
    assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    assert spec["rayClusterSpec"]["autoscalerOptions"]["idleTimeoutSeconds"] < spec["ttlSecondsAfterFinished"]
    assert all(one["minReplicas"] == one["replicas"] == 0 for one in spec["rayClusterSpec"]["workerGroupSpecs"])
    for one in [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]:
        name = one.get("groupName", "head")
        assert one["labels"] == {"group": name}
        assert one["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == name


def test_only_pods_with_gpus_have_the_image_with_cuda():
    for name, _, spec in pods():
        [container] = spec["containers"]
        with_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert with_gpu == (name == "render")
        assert container["image"] == f"REGISTRY/floatcast-{'gpu' if with_gpu else 'cpu'}:TAG"
        assert f"-t {container['image']} ." in (DEPLOY / "Dockerfile").read_text()


def test_kubernetes_starts_the_pods_that_the_jobs_pools_need():
    job = keys_of(RAYJOB["spec"]["entrypoint"], RenderJob)
    room = {}
    for name, most, spec in pods()[1:]:
        room[name] = most, amount(spec["containers"][0]["resources"]["limits"]["cpu"])
    (feature_pods, feature_cpus), (render_pods, render_cpus) = room["features"], room["render"]
    # One less than fit: what it leaves is for quality control.
    assert job.features.workers == feature_pods * int(feature_cpus // job.features.num_cpus) - 1
    assert job.render.workers == render_pods
    assert job.render.num_cpus <= render_cpus < job.render.num_cpus + job.features.num_cpus
    assert job.wait_minutes > 0  # else it would not ask for them
    assert job.render.num_gpus == 1  # a job does not know the groups of KubeRay, and would take CPUs
    # As the autoscaler in the head's pod reads the cluster of the job.
    resource = {"metadata": {"name": "floatcast", "namespace": "default"}, "spec": RAYJOB["spec"]["rayClusterSpec"]}
    autoscaled = _derive_autoscaling_config_from_ray_cr(resource)
    assert started(autoscaled, []) == {}
    bundles = rendering(job.render.workers, job.render.num_cpus, job.features.workers)
    assert started(autoscaled, bundles) == {"features": 2, "render": 4}


def test_the_queue_is_the_jobs_and_its_quota_holds_the_job():
    kinds = {}
    for one in yaml.safe_load_all((DEPLOY / "kueue.yaml").read_text()):
        assert one["apiVersion"] == "kueue.x-k8s.io/v1beta2"
        kinds.setdefault(one["kind"], []).append(one)
    labels = RAYJOB["metadata"]["labels"]
    [local], [queue] = kinds["LocalQueue"], kinds["ClusterQueue"]
    assert local["metadata"]["name"] == labels["kueue.x-k8s.io/queue-name"]
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    priorities = {one["metadata"]["name"]: one["value"] for one in kinds["WorkloadPriorityClass"]}
    assert priorities[labels["kueue.x-k8s.io/priority-class"]] < max(priorities.values())
    # Kueue admits a cluster that scales itself only so, and only one that goes when its job has ended.
    assert RAYJOB["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    assert RAYJOB["spec"]["shutdownAfterJobFinishes"] is True
    [resources] = queue["spec"]["resourceGroups"]
    flavors = {one["metadata"]["name"]: one["spec"]["nodeLabels"] for one in kinds["ResourceFlavor"]}
    need = {name: dict.fromkeys(resources["coveredResources"], 0.0) for name in flavors}
    for _, most, spec in pods():
        [flavor] = [name for name, labels in flavors.items() if labels == spec["nodeSelector"]]
        for name, quantity in spec["containers"][0]["resources"]["requests"].items():
            need[flavor][name] += most * amount(quantity)
    for flavor in resources["flavors"]:
        quota = {one["name"]: amount(one["nominalQuota"]) for one in flavor["resources"]}
        assert all(quota[name] >= needed for name, needed in need[flavor["name"]].items()), flavor["name"]


def test_the_readmes_schedules_are_ones_that_their_operators_take(tmp_path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"#!/bin/sh\ncat > {tmp_path}/applied\n")
    kubectl.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", block("sh", "RayCronJob")], cwd=ROOT, env=environment, check=True)
    applied = yaml.safe_load((tmp_path / "applied").read_text())
    kuberay_takes(applied)
    assert applied["kind"] == "RayCronJob"
    assert len(applied["metadata"]["name"]) <= 36  # the operator's limit
    assert applied["spec"]["jobTemplate"] == RAYJOB["spec"]
    cron = yaml.safe_load(block("yaml", "kind: CronJob"))
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container], [volume] = pod["containers"], pod["volumes"]
    assert container["command"] == ["kubectl", "create", "-f", "/job/rayjob.yaml"]
    assert f"configmap {volume['configMap']['name']} --from-file=jobs/deploy/rayjob.yaml" in README


# --- How a run ends --------------------------------------------------------------------------------------------


def kubernetes_end(code):
    """(job status, deployment status) of the last try, by exit code, as the README's table has them."""
    if code == 0:
        return "SUCCEEDED", "Complete"
    return ("STOPPED", "Complete") if code in ENDED else ("FAILED", "Failed")


def matches(condition, status):
    [(field, value)] = re.findall(r"^status\.(\w+) == (\w+)$", condition.strip())
    return status[field] == value


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130])
def test_argo_sees_every_run_that_is_not_done(code):
    """Argo Workflows: one failure condition is enough, success takes all."""
    workflow = yaml.safe_load(block("yaml", "CronWorkflow"))["spec"]["workflowSpec"]
    templates = {one["name"]: one for one in workflow["templates"]}
    resource = templates[workflow["entrypoint"]]["resource"]
    status = dict(zip(("jobStatus", "jobDeploymentStatus"), kubernetes_end(code), strict=True))
    failed = any(matches(one, status) for one in resource["failureCondition"].split(","))
    succeeded = all(matches(one, status) for one in resource["successCondition"].split(","))
    assert (failed, succeeded) == (code != 0, code == 0)
    # Between two tries nothing is decided.
    between = {"jobStatus": "FAILED", "jobDeploymentStatus": "Retrying"}
    assert not any(matches(one, between) for one in resource["failureCondition"].split(","))
    assert templates[workflow["onExit"]]["container"]["command"][:3] == ["python", "-m", "jobs.status"]


@pytest.fixture
def outside(monkeypatch):
    """A process that Ray did not start, whose handler of SIGTERM comes back."""
    monkeypatch.delenv(rayjob_command.JOB_CONFIG, raising=False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("code", "script"), [(2, "exit 2"), (3, "exit 3"), (137, "kill -9 $$")])
def test_the_entrypoint_ends_with_the_code_of_its_command(outside, code, script):
    assert rayjob_command.main(["bash", "-c", script]) == code


def test_a_refused_job_that_cannot_be_stopped_ends_with_its_code(outside, monkeypatch, capsys):
    class Gone:
        def stop_job(self, job):
            raise RuntimeError(f"no answer about {job}")

    monkeypatch.setenv(rayjob_command.JOB_CONFIG, json.dumps({"metadata": {"job_submission_id": "night"}}))
    monkeypatch.setattr(rayjob_command, "JobSubmissionClient", Gone)
    assert rayjob_command.main(["bash", "-c", "exit 2"]) == 2
    assert "the Ray job could not be stopped: the head node does not answer" in capsys.readouterr().err
