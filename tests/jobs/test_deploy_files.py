"""The files in jobs/deploy and cluster.yaml, as far as they can be held without AWS, Docker and Kubernetes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceConstraint
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs import rayjob as rayjob_command
from jobs.cli.config import load_config
from jobs.render import RenderJob
from jobs.submit import ENDED
from jobs.train import Train
from pipeline.cluster.metrics import COUNTERS, GAUGES, LABELS, RUN_COUNTERS, RUN_GAUGES
from tests.conftest import free_ports

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "jobs" / "deploy"
README = (DEPLOY / "README.md").read_text()
LOCKS = {name: DEPLOY / f"requirements-{name}.lock" for name in ("cpu", "gpu")}
CUDA = re.compile("nvidia|cuda|triton")


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def rayjob():
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


def block(language, word):
    """The one code block of the README that contains a word."""
    [found] = [code for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if word in code]
    return found


def keys_of(command, job):
    return load_config(job, [word for word in shlex.split(command) if re.match(r"[a-z_.]+=", word)])


def commands(name):
    """Command lines of the README that give sizes to a job."""
    text = re.sub(r"\\\n", " ", README)
    return [line for line in re.findall(rf"-m jobs\.{name} (.*=.*)", text) if "wait_minutes" in line]


# --- cluster.yaml: groups --------------------------------------------------------------------------------------


def group(cluster, name):
    return {key: one for key, one in cluster["available_node_types"].items() if one["labels"]["group"] == name}


def market(node_type):
    return node_type["node_config"].get("InstanceMarketOptions", {}).get("MarketType", "on-demand")


def test_every_type_of_machine_says_its_group_and_its_market(cluster):
    for name, one in cluster["available_node_types"].items():
        assert set(one["labels"]) == {"group", "market"}
        assert one["labels"]["market"] == market(one), name


@pytest.mark.parametrize("name", ["features", "render"])
def test_a_group_has_two_instance_types_on_spot_and_comes_down_to_machines_on_demand(cluster, name):
    types = group(cluster, name).values()
    assert len({str(one["resources"]) for one in types}) == 1  # any of them serves a request
    spot = [one for one in types if market(one) == "spot"]
    assert len({one["node_config"]["InstanceType"] for one in spot}) >= 2
    [fallback] = [one for one in types if market(one) == "on-demand"]
    assert all(one["priority"] > fallback["priority"] for one in spot)


def test_no_gpu_runs_before_a_job_asks_for_it_and_one_type_has_eight(cluster):
    with_gpus = [one for one in cluster["available_node_types"].values() if one["resources"].get("GPU")]
    assert {one["resources"]["GPU"] for one in with_gpus} == {1, 4, 8}
    assert all(one["min_workers"] == 0 and "gpu" in one["docker"]["worker_image"] for one in with_gpus)


def test_disks_are_encrypted(cluster):
    for one in cluster["available_node_types"].values():
        assert [disk["Ebs"]["Encrypted"] for disk in one["node_config"]["BlockDeviceMappings"]] == [True]


# --- cluster.yaml: which machines Ray would start ---------------------------------------------------------------


def started(cluster, bundles, failed=()):
    """Machines that Ray's autoscaler would start for a request; `failed` are types that did not come up just now."""
    types = {
        name: NodeTypeConfig(
            name=name,
            min_worker_nodes=one["min_workers"],
            max_worker_nodes=one["max_workers"] + (name == "head"),
            priority=one.get("priority", 0),
            resources=one["resources"],
            labels=one["labels"],
            launch_config_hash="",
        )
        for name, one in cluster["available_node_types"].items()
    }
    asked = ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(bundle) for bundle in bundles])
    lost = dict.fromkeys(failed, 0.0)
    answer = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types,
            max_num_nodes=cluster["max_workers"] + 1,
            cluster_resource_constraints=[ClusterResourceConstraint(resource_requests=asked)] if bundles else [],
            recoverable_resource_availabilities=lost,
            cloud_resource_availabilities=lost,
        )
    )
    assert not answer.infeasible_cluster_resource_constraints
    return {one.instance_type: one.count for one in answer.to_launch}


def rendering(workers=4, cpus=7.0, features=8):
    return [{"CPU": 4.0}] * features + [{"CPU": cpus, "GPU": 1.0}] * workers


def training(workers, cpus):
    return [{"CPU": float(cpus), "GPU": 1.0}] * workers


def test_a_planning_job_costs_no_gpu_and_the_documented_one_gets_the_documented_machines(cluster):
    assert started(cluster, []) == {"features": 2}
    found = commands("render") + commands(r'submit --tries "\$1" --')
    assert len(found) == 2
    for command in found:
        job = keys_of(command, RenderJob)
        bundles = rendering(job.render.workers, job.render.num_cpus, job.features.workers)
        assert started(cluster, bundles) == {"features": 2, "render": 4}


def test_a_type_that_did_not_come_up_or_is_at_its_limit_gives_way_to_the_next_of_its_group(cluster):
    assert started(cluster, rendering(), ["render"]) == {"features": 2, "render-g5": 4}
    assert started(cluster, rendering(), ["render", "render-g5"]) == {"features": 2, "render-on-demand": 4}
    assert started(cluster, rendering(workers=10)) == {"features": 2, "render": 8, "render-g5": 2}
    many = rendering(features=20)
    assert started(cluster, many) == {"features": 4, "features-m6i": 1, "render": 4}
    assert started(cluster, many, ["features", "features-m6i"]) == {"features": 2, "features-on-demand": 3, "render": 4}


def test_sizes_choose_the_group(cluster):
    [command] = commands("train")
    job = keys_of(command, Train)
    assert started(cluster, training(job.workers.number, job.workers.cpus)) == {"features": 2, "train": 1}
    assert started(cluster, training(8, 12)) == {"features": 2, "train": 2}
    assert started(cluster, training(8, 24)) == {"features": 2, "train-8gpu": 1}
    assert started(cluster, rendering(4, 12)) == {"features": 2, "train": 1}
    assert started(cluster, rendering(8, 20)) == {"features": 2, "train-8gpu": 1}
    for text in ("workers.number=8 workers.cpus=24", "render.num_cpus=12", "render.workers=8 render.num_cpus=20"):
        assert text in re.sub(r"\s+", " ", README)


def test_ray_takes_the_next_type_after_a_machine_that_did_not_start_but_not_after_a_refusal():
    """As the README tells (No spot machines): if a newer Ray answers otherwise, it may tell better news."""
    monitor = CloudResourceMonitor()
    monitor.notify([InstanceUpdateEvent(instance_type="render", new_instance_status=Instance.ALLOCATION_FAILED)])
    assert monitor.get_recoverable_resource_availabilities() == {}
    monitor.notify([InstanceUpdateEvent(instance_type="render", new_instance_status=Instance.ALLOCATION_TIMEOUT)])
    assert monitor.get_recoverable_resource_availabilities() == {"render": 0.0}


def test_the_readmes_command_puts_all_groups_on_demand_and_changes_nothing_else(cluster, tmp_path):
    [command] = {line.strip() for line in README.splitlines() if "on-demand.yaml" in line and "sed" in line}
    (tmp_path / "cluster.yaml").write_text((ROOT / "cluster.yaml").read_text())
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    changed = yaml.safe_load((tmp_path / "on-demand.yaml").read_text())
    jsonschema.validate(changed, json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text()))
    assert {market(one) for one in changed["available_node_types"].values()} == {"on-demand"}
    expected = json.loads(json.dumps(cluster))
    for one in expected["available_node_types"].values():
        one["node_config"].pop("InstanceMarketOptions", None)
    assert changed == expected


# --- iam.yaml ---------------------------------------------------------------------------------------------------


class CloudFormation(yaml.SafeLoader):
    """Reads !Ref X as {"Ref": X}, and its like."""


def _tagged(loader, tag, node):
    read = {"scalar": loader.construct_scalar, "sequence": loader.construct_sequence}[node.id]
    return {tag: read(node, deep=True) if node.id == "sequence" else read(node)}


CloudFormation.add_multi_constructor("!", _tagged)


def test_one_stack_serves_clusters_of_several_names_and_a_key_is_used_through_s3_alone(cluster):
    stack = yaml.load((DEPLOY / "iam.yaml").read_text(), CloudFormation)
    [policy] = stack["Resources"]["HeadRole"]["Properties"]["Policies"]
    [ends] = [one for one in policy["PolicyDocument"]["Statement"] if "ec2:TerminateInstances" in one["Action"]]
    assert ends["Condition"] == {"StringLike": {"aws:ResourceTag/ray-cluster-name": {"Ref": "Clusters"}}}
    pattern = stack["Parameters"]["Clusters"]["Default"]
    assert fnmatch(cluster["cluster_name"], pattern)
    assert fnmatch("floatcast-night", pattern)
    assert not fnmatch("somebody-elses", pattern)
    assert stack["Parameters"]["KmsKey"]["Default"] == ""
    statements = stack["Resources"]["Storage"]["Properties"]["PolicyDocument"]["Statement"]
    [(condition, allowed, otherwise)] = [one["If"] for one in statements if "If" in one]
    assert condition in stack["Conditions"]
    assert (allowed["Action"], allowed["Resource"]) == (["kms:Decrypt", "kms:GenerateDataKey"], {"Ref": "KmsKey"})
    assert "kms:ViaService" in allowed["Condition"]["StringLike"]
    assert otherwise == {"Ref": "AWS::NoValue"}


# --- Versions ---------------------------------------------------------------------------------------------------


def pins(lock):
    """Name -> version of a lock file, every line of which names one exact version."""
    lines = [line for line in LOCKS[lock].read_text().splitlines() if not line.startswith("--")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+", line) for line in lines)
    return dict(line.split("==") for line in lines)


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_satisfies_the_project_and_knows_no_machine(lock):
    locked = pins(lock)
    for needed in map(Requirement, project()["project"]["dependencies"] + project()["build-system"]["requires"]):
        version = Version(locked[canonicalize_name(needed.name)])
        assert needed.specifier.contains(version), f"{needed.name} {version}"
    extra = [line.partition("#")[0] for line in (DEPLOY / "requirements.in").read_text().splitlines()]
    for needed in map(Requirement, filter(None, extra)):
        assert needed.specifier.contains(Version(locked[canonicalize_name(needed.name)])), needed
    assert re.findall(r"https?://\S+|file:|/(?:home|root|tmp|work)\b", LOCKS[lock].read_text()) == (
        ["https://download.pytorch.org/whl/cpu"] if lock == "cpu" else []
    )


def test_the_lock_files_differ_in_pytorch_alone_as_the_readmes_command_makes_them(tmp_path):
    [script] = re.findall(
        r"^\(echo .*?requirements-cpu\.lock$", block("sh", "uv pip compile"), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "requirements-gpu.lock").write_text(LOCKS["gpu"].read_text())
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "requirements-cpu.lock").read_text() == LOCKS["cpu"].read_text()
    cpu, gpu = pins("cpu"), pins("gpu")
    assert {name for name in gpu if name not in cpu} == {name for name in gpu if CUDA.match(name)} != set()
    assert {name for name in cpu if cpu[name] != gpu.get(name)} == {"torch"}
    assert cpu["torch"] == gpu["torch"] + "+cpu"


def test_all_machines_have_the_ray_of_the_lock_files(cluster, rayjob):
    version = pins("cpu")["ray"]
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == version
    images = set(re.findall(r"rayproject/ray:([\d.]+)-py(\d+)", (ROOT / "cluster.yaml").read_text()))
    assert images == {(version, "311")}
    assert f"ray[default]=={version}" in README


def installs(text):
    return re.findall(r"pip (?:install|wheel)[^&;|\n]*", text)


def test_no_machine_chooses_versions_when_it_starts(cluster):
    script = "\n".join(cluster["setup_commands"] + cluster["head_setup_commands"])
    found = installs(script)
    assert len(found) == 2
    assert all("--no-deps" in one for one in found)
    assert "jobs/deploy/requirements-$lock.lock" in found[0]
    assert "--no-build-isolation" in found[1]  # else pip fetches the newest setuptools
    assert {word.removeprefix("lock=") for word in re.findall(r"lock=\w+", script)} == set(LOCKS)


# --- Dockerfile -------------------------------------------------------------------------------------------------


def stages():
    """Stage -> (base, instructions as pairs of word and text)."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    found = {}
    for line in filter(None, re.sub(r"\\\n", " ", text).splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\w+)", rest).groups()
            instructions = []
            found[name] = (base, instructions)
        else:
            instructions.append((word, rest.strip()))
    return found


def test_the_images_are_built_as_another_user_from_one_python_and_from_locked_versions():
    found = stages()
    assert list(found) == ["base", "wheel", "cpu", "gpu"]
    base = found["base"][0]
    assert re.fullmatch(r"python:3\.11-slim-\w+", base)  # no latest; Ray wants one Python on all nodes
    assert {found[name][0] for name in ("wheel", "cpu", "gpu")} == {"base"}
    for name in ("cpu", "gpu"):
        instructions = found[name][1]
        assert [text for word, text in instructions if word == "USER"] == ["1000"]
        assert ("COPY", f"jobs/deploy/{LOCKS[name].name} /tmp/requirements.lock") in instructions
        assert ("COPY", "--from=wheel /wheels /wheels") in instructions
        runs = [text for word, text in instructions if word == "RUN"]
        assert runs == ["pip install --no-deps -r /tmp/requirements.lock", "pip install --no-deps /wheels/*.whl"]
    known = {"RUN", "COPY", "ENV", "USER", "WORKDIR"}
    assert {word for _, instructions in found.values() for word, _ in instructions} <= known
    runs = [text for _, instructions in found.values() for word, text in instructions if word == "RUN"]
    assert all("--no-deps" in one for text in runs for one in installs(text))


def test_the_dockerfile_is_clean_to_its_linter():
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def copied(stage):
    return [
        source
        for word, text in stages()[stage][1]
        if word == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    ]


def test_what_the_images_copy_exists_and_is_not_ignored():
    patterns = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in patterns if line.startswith("!")}
    for stage in stages():
        for source in copied(stage):
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in kept, source
    assert "*" in patterns
    # As for a job that is submitted: model folders beside the bundled one stay out.
    rayignore = (ROOT / ".rayignore").read_text().splitlines()
    assert {line.strip("!/") for line in rayignore if line.startswith("!")} <= kept
    assert {"models/*/", "**/*.pth", "**/__pycache__"} <= set(patterns)


@pytest.mark.slow
def test_the_wheel_of_the_images_is_built_from_what_they_copy(tmp_path):
    """As the stage `wheel` builds it, with the setuptools of this environment."""
    sources = [source for source in copied("wheel") if "/" not in source]
    for source in sources:
        (tmp_path / source).symlink_to(ROOT / source)
    [command] = [text for word, text in stages()["wheel"][1] if word == "RUN" and text.startswith("pip wheel")]
    command = command.replace("pip", f"{shlex.quote(sys.executable)} -m pip", 1).replace("/wheels", "wheels")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"jobs/render.py", "jobs/rayjob.py", "pipeline/cluster/metrics.py", "models/float.py"} <= names
    assert "models/pocket/model.safetensors" in names
    assert not [name for name in names if name.startswith("pipeline/research")]


# --- rayjob.yaml ------------------------------------------------------------------------------------------------


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


def pods(rayjob):
    """(name, most pods, the pod's spec) of the head and of each group."""
    spec = rayjob["spec"]["rayClusterSpec"]
    workers = [(one["groupName"], one["maxReplicas"], one["template"]["spec"]) for one in spec["workerGroupSpecs"]]
    return [("head", 1, spec["headGroupSpec"]["template"]["spec"]), *workers]


def amount(quantity):
    number, unit = re.fullmatch(r"([\d.]+)(m|Gi|Mi)?", str(quantity)).groups()
    return float(number) * {None: 1, "m": 1e-3, "Gi": 2**30, "Mi": 2**20}[unit]


def test_kuberay_takes_the_job_and_workers_go_first(rayjob):
    kuberay_takes(rayjob)
    spec = rayjob["spec"]
    assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    assert spec["rayClusterSpec"]["autoscalerOptions"]["idleTimeoutSeconds"] < spec["ttlSecondsAfterFinished"]
    assert all(one["minReplicas"] == one["replicas"] == 0 for one in spec["rayClusterSpec"]["workerGroupSpecs"])
    for one in [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]:
        name = one.get("groupName", "head")
        assert one["labels"] == {"group": name}
        assert one["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == name


def test_only_pods_with_gpus_have_the_image_with_cuda(rayjob):
    for name, _, spec in pods(rayjob):
        [container] = spec["containers"]
        with_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert with_gpu == (name == "render")
        assert container["image"] == f"REGISTRY/floatcast-{'gpu' if with_gpu else 'cpu'}:TAG"
        assert f"-t {container['image']} ." in (DEPLOY / "Dockerfile").read_text()


def test_kubernetes_starts_the_pods_that_the_jobs_pools_need(rayjob):
    job = keys_of(rayjob["spec"]["entrypoint"], RenderJob)
    room = {}
    for name, most, spec in pods(rayjob)[1:]:
        room[name] = most, amount(spec["containers"][0]["resources"]["limits"]["cpu"])
    (feature_pods, feature_cpus), (render_pods, render_cpus) = room["features"], room["render"]
    assert job.features.workers == feature_pods * int(feature_cpus // job.features.num_cpus)
    assert job.render.workers == render_pods
    assert job.render.num_cpus <= render_cpus < job.render.num_cpus + job.features.num_cpus
    assert job.wait_minutes > 0  # else it would not ask for them


def test_the_queue_is_the_jobs_and_its_quota_holds_the_job(rayjob):
    kinds = {}
    for one in yaml.safe_load_all((DEPLOY / "kueue.yaml").read_text()):
        assert one["apiVersion"] == "kueue.x-k8s.io/v1beta2"
        kinds.setdefault(one["kind"], []).append(one)
    labels = rayjob["metadata"]["labels"]
    [local], [queue] = kinds["LocalQueue"], kinds["ClusterQueue"]
    assert local["metadata"]["name"] == labels["kueue.x-k8s.io/queue-name"]
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    priorities = {one["metadata"]["name"]: one["value"] for one in kinds["WorkloadPriorityClass"]}
    assert priorities[labels["kueue.x-k8s.io/priority-class"]] < max(priorities.values())
    # Kueue admits a cluster that scales itself only so, and only one that goes when its job has ended.
    assert rayjob["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True
    [resources] = queue["spec"]["resourceGroups"]
    flavors = {one["metadata"]["name"]: one["spec"]["nodeLabels"] for one in kinds["ResourceFlavor"]}
    need = {name: dict.fromkeys(resources["coveredResources"], 0.0) for name in flavors}
    for _, most, spec in pods(rayjob):
        [flavor] = [name for name, labels in flavors.items() if labels == spec["nodeSelector"]]
        for name, quantity in spec["containers"][0]["resources"]["requests"].items():
            need[flavor][name] += most * amount(quantity)
    for flavor in resources["flavors"]:
        quota = {one["name"]: amount(one["nominalQuota"]) for one in flavor["resources"]}
        assert all(quota[name] >= needed for name, needed in need[flavor["name"]].items()), flavor["name"]


def test_the_readmes_schedules_are_ones_that_their_operators_take(rayjob, tmp_path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"#!/bin/sh\ncat > {tmp_path}/applied\n")
    kubectl.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", block("sh", "RayCronJob")], cwd=ROOT, env=environment, check=True)
    applied = yaml.safe_load((tmp_path / "applied").read_text())
    kuberay_takes(applied)
    assert applied["kind"] == "RayCronJob"
    assert len(applied["metadata"]["name"]) <= 36  # the operator's limit
    assert applied["spec"]["jobTemplate"] == rayjob["spec"]
    cron = yaml.safe_load(block("yaml", "kind: CronJob"))
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container], [volume] = pod["containers"], pod["volumes"]
    assert container["command"] == ["kubectl", "create", "-f", "/job/rayjob.yaml"]
    assert f"configmap {volume['configMap']['name']} --from-file=jobs/deploy/rayjob.yaml" in README


# --- jobs.rayjob without Ray -------------------------------------------------------------------------------------


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
    assert "no answer about night" in capsys.readouterr().err


# --- How a run ends on Kubernetes --------------------------------------------------------------------------------


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


TOKEN = "t" * 32


@pytest.fixture(scope="module")
def head():
    """A Ray head on this machine; jobs find a `python` there that runs jobs.rayjob, and plays jobs.render."""
    gcs, dashboard, client, agent, metrics = range(first := free_ports(5), first + 5)
    with tempfile.TemporaryDirectory(prefix="fc-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        # Ray starts one of its servers by a shell, with the path of Python unquoted: it gets one without spaces.
        Path(folder, "venv").symlink_to(sys.prefix)
        real = Path(folder, "venv", "bin", "python")
        python = Path(folder, "bin", "python")
        python.parent.mkdir()
        python.write_text(
            f'#!/bin/bash\n[ "$2" = jobs.rayjob ] && exec {real} "$@"\n[ "$2" = jobs.render ] || exit 99\n'
            "trap 'sleep 2; touch \"$STOPPED\"; exit 130' TERM\n"
            '[ -z "$STOPPED" ] && exit "$CODE"\ntouch "$STOPPED.soon"\nwhile :; do sleep 0.1; done\n'
        )
        python.chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "PATH": f"{python.parent}:{real.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_JOB_STOP_WAIT_TIME_S": "120",
            "RAY_gcs_server_request_timeout_seconds": "300",
        }
        command = [real, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=0"]
        command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        command += [
            f"--dashboard-agent-listen-port={agent}",
            f"--metrics-export-port={metrics}",
            "--disable-usage-stats",
        ]
        command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}/ray", f"--object-store-memory={100 * 2**20}"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]
        with Path(folder, "log").open("w") as log:
            node = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield _client(f"http://127.0.0.1:{dashboard}", node, Path(folder, "log"))
        finally:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()


def _client(address, node, log, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end and node.poll() is None:
        try:
            client = JobSubmissionClient(address, headers={"Authorization": f"Bearer {TOKEN}"})
            client.list_jobs()
            return client
        except Exception:
            time.sleep(0.5)
    raise RuntimeError(f"the head did not start:\n{log.read_text()[-3000:]}")


def _ended(client, job, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        info = client.get_job_info(job)
        if info.status.is_terminal():
            return info
        time.sleep(0.2)
    raise TimeoutError(client.get_job_logs(job))


@pytest.mark.slow
def test_ray_gives_the_job_the_status_that_stops_or_allows_another_try(head, rayjob):
    jobs = {
        code: head.submit_job(
            entrypoint=rayjob["spec"]["entrypoint"], runtime_env={"env_vars": {"CODE": str(code), "STOPPED": ""}}
        )
        for code in (0, 1, 2, 3, 4, 130)
    }
    ends = {code: _ended(head, job) for code, job in jobs.items()}
    for code, info in ends.items():
        assert info.status.value == kubernetes_end(code)[0], head.get_job_logs(jobs[code])
        said = f"exit code {code}: another try would change nothing" in head.get_job_logs(jobs[code])
        assert said == (info.status == JobStatus.STOPPED)
    assert {code: ends[code].driver_exit_code for code in (0, 3, 130)} == {0: 0, 3: 3, 130: 130}


@pytest.mark.slow
def test_a_job_that_is_stopped_writes_its_last_files_before_the_entrypoint_ends(head, rayjob, tmp_path):
    stopped = tmp_path / "stopped"
    job = head.submit_job(
        entrypoint=rayjob["spec"]["entrypoint"], runtime_env={"env_vars": {"CODE": "", "STOPPED": str(stopped)}}
    )
    while not Path(f"{stopped}.soon").exists():
        assert not head.get_job_info(job).status.is_terminal(), head.get_job_logs(job)
        time.sleep(0.2)
    head.stop_job(job)
    assert _ended(head, job).status == JobStatus.STOPPED
    assert stopped.exists()


# --- Metrics ----------------------------------------------------------------------------------------------------

TAGS = {f"ray_{name}_total": {*tags, *LABELS} for name, (_, tags) in (COUNTERS | RUN_COUNTERS).items()}
TAGS |= {f"ray_{name}": set(LABELS) for name in GAUGES | RUN_GAUGES}


def check_expression(expression):
    """The metrics and labels of an expression of PromQL exist, and its brackets close."""
    names = re.findall(r"\bray_\w+", expression)
    assert names
    assert set(names) <= set(TAGS), expression
    known = set.union(*(TAGS[name] for name in names))
    for name, matchers in re.findall(r"(ray_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)(?==~|!=|=)", matchers)) <= TAGS[name], expression
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(re.split(r", ?", labels)) <= known, expression
    for pair in ("()", "[]", "{}"):
        assert expression.count(pair[0]) == expression.count(pair[1])


def test_alert_rules_name_metrics_and_labels_that_exist():
    [rules] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    assert len({rule["alert"] for rule in rules["rules"]}) == len(rules["rules"]) >= 6
    for rule in rules["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}
        assert "{{ $labels.output }}" in rule["annotations"]["summary"]
        check_expression(rule["expr"])
        assert re.search(r"by \(output, run\)", rule["expr"])  # an alert says which run it means


def test_the_dashboard_lets_one_choose_a_run_and_every_panel_keeps_to_it():
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", *LABELS}
    for name in LABELS:
        assert variables[name]["query"].endswith(f", {name})")
        check_expression(variables[name]["query"])
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            check_expression(target["expr"])
            chosen = re.findall(r'ray_\w+\{[^}]*output=~"\$output", run=~"\$run"\}', target["expr"])
            assert len(chosen) == len(re.findall(r"\bray_\w+", target["expr"])), target["expr"]


def test_what_has_not_run_is_said():
    text = re.sub(r"\s+", " ", README)
    assert "**Neither has been started on AWS or Kubernetes yet.**" in text
    for name in ("cluster.yaml", "iam.yaml", "Dockerfile", "rayjob.yaml", "kueue.yaml", "alerts.yaml", "grafana.json"):
        assert re.search(rf"^\|[^|]*{re.escape(name)}.*\|", README, re.MULTILINE), name
