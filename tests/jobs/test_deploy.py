"""What is deployed: the files for AWS and Kubernetes as far as they can be checked without either, and real submissions
to a real head that, as in those files, renders nothing itself."""

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from packaging.requirements import Requirement
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs.cli.config import load_config
from jobs.prepare import PrepareJob
from jobs.render import RenderJob
from jobs.submit import JOBS
from jobs.train import Train
from models import ModelFolder
from pipeline.cluster.pools import plan_pools
from pipeline.training.trainer import plan_workers
from tests import media, reels
from tests.conftest import POISON, free_ports
from tests.deployed import RAYJOB
from tests.jobs.deploy.test_rayjob import kubernetes_end
from tests.jobs.test_render import check_gone_on, check_interrupted
from tests.relay import Relay
from tests.running import run_job
from tests.synthetic_videos import SyntheticVideo, speech

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "jobs" / "deploy"
FILES = [ROOT / "cluster.yaml", *(file for file in DEPLOY.iterdir() if file.is_file())]


class CloudFormation(yaml.SafeLoader):
    """Takes !Ref and its like as the text behind them."""


CloudFormation.add_multi_constructor("!", lambda loader, tag, node: node.value)


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def rayjob():
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {one.name: one for one in map(Requirement, project["dependencies"])}


def render_keys(command):
    """Keys of `jobs.render` in a command, each of which must be one that the job has."""
    words = shlex.split(command)
    start = words.index("--") if "jobs.submit" in words else words.index("jobs.render")
    return load_config(RenderJob, [word for word in words[start + 1 :] if "=" in word])


# --- AWS -------------------------------------------------------------------------------------------------------


def test_ray_takes_the_cluster_file(cluster):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    validate_config(prepare_config(cluster))


def test_the_head_is_on_demand_and_renders_nothing_and_workers_are_first_on_spot(cluster):
    types = dict(cluster["available_node_types"])
    head = types.pop(cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for name in ("features", "render", "train"):
        assert types[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert sum(types[name]["max_workers"] for name in ("features", "render", "train")) <= cluster["max_workers"]
    for name, worker in types.items():
        # No GPU is paid for before a job asks for it.
        assert (name == "features") <= worker["min_workers"] <= worker["max_workers"] <= cluster["max_workers"]
        assert worker["min_workers"] == 0 or "GPU" not in worker["resources"]
    assert types["render"]["resources"]["GPU"] == 1
    assert types["train"]["resources"]["GPU"] == 4
    assert "GPU" not in types["features"]["resources"]


def test_the_instance_profiles_are_those_that_the_stack_makes(cluster):
    stack = yaml.load((DEPLOY / "iam.yaml").read_text(), CloudFormation)["Resources"].values()
    made = {one["Properties"]["InstanceProfileName"] for one in stack if one["Type"] == "AWS::IAM::InstanceProfile"}
    used = {one["node_config"]["IamInstanceProfile"]["Name"] for one in cluster["available_node_types"].values()}
    assert used == made


def test_what_is_mounted_is_enough_to_install_the_project(cluster):
    mounts = [local for remote, local in cluster["file_mounts"].items() if "floatcast" in remote]
    assert all((ROOT / local).exists() for local in mounts)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]} - {"floatcast"}  # in pipeline
    assert packages | {"pyproject.toml", project["project"]["readme"]} <= set(mounts)


def test_versions_are_those_of_the_project(rayjob):
    texts = [file.read_text() for file in FILES]
    versions = {found for text in texts for found in re.findall(r"rayproject/ray:([\d.]+)-py311", text)}
    versions |= {found for text in texts for found in re.findall(r"ray\[default\]==([\d.]+)", text)}
    versions.add(rayjob["spec"]["rayClusterSpec"]["rayVersion"])
    [version] = versions
    assert requirements()["ray"].specifier.contains(version)


def test_nothing_secret_stands_in_the_files_and_three_lines_are_to_edit():
    for file in FILES:
        text = file.read_text()
        assert not re.search(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|ami-[0-9a-f]{8,}|PRIVATE KEY", text), file
        assert not re.search(r"(?i)(secret_access_key|auth_token)[\"']?\s*[:=]\s*[\"']?[\w+/]{16,}", text), file
    edits = re.findall(r"EDIT (\d) of 3", (ROOT / "cluster.yaml").read_text())
    assert edits == ["1", "2", "3"]


# --- Kubernetes ------------------------------------------------------------------------------------------------


def groups(rayjob):
    spec = rayjob["spec"]["rayClusterSpec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pod(group):
    return group["template"]["spec"]


def test_the_rayjob_resumes_after_a_lost_driver_and_ends_its_cluster(rayjob):
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    spec = rayjob["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] > 0
    head, *workers = groups(rayjob)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert pod(head)["nodeSelector"] != pod(workers[0])["nodeSelector"]  # not on spot
    assert [group["groupName"] for group in workers] == ["features", "render"]
    for group in workers:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [head, *workers]:
        [container] = pod(group)["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert pod(group)["serviceAccountName"] == "floatcast"
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_jobs_pools_fit_the_pods(rayjob):
    job = render_keys(rayjob["spec"]["entrypoint"])
    have = {"CPU": 0.0, "GPU": 0.0}
    for group in groups(rayjob)[1:]:
        [container] = pod(group)["containers"]
        limits = container["resources"]["limits"]
        have["CPU"] += group["maxReplicas"] * float(limits["cpu"])
        have["GPU"] += group["maxReplicas"] * limits.get("nvidia.com/gpu", 0)
    pools = plan_pools(job.features, job.render, job.qc, have)
    assert pools.render.workers * pools.render.num_gpus == have["GPU"]
    # Else feature actors could take the CPUs that render actors need beside their GPUs.
    features, render = (
        float(pod(group)["containers"][0]["resources"]["limits"]["cpu"]) for group in groups(rayjob)[1:]
    )
    replicas = groups(rayjob)[1]["maxReplicas"]
    assert pools.features.workers <= replicas * int(features / pools.features.num_cpus)
    assert render - pools.render.num_cpus < pools.features.num_cpus


def test_the_end_of_the_heads_pod_interrupts_the_driver_alone(rayjob):
    head = pod(groups(rayjob)[0])
    *_, script, pattern = head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    entrypoint = rayjob["spec"]["entrypoint"]
    assert re.search(pattern, "python -m jobs.render manifest=m.csv")
    assert re.search(pattern, "/home/ray/anaconda3/bin/python3.11 -m jobs.render manifest=m.csv")
    # A shell that dies before the driver makes Ray kill the driver.
    for other in (f"/bin/sh -c {entrypoint}", entrypoint.replace("'", ""), f"bash -c {script} {pattern}"):
        assert not re.search(pattern, other)
    seconds = int(re.search(r"\{1\.\.(\d+)\}", script)[1])
    assert seconds < head["terminationGracePeriodSeconds"]


# --- The README's examples -------------------------------------------------------------------------------------


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)


def test_the_readmes_commands_have_keys_that_exist_and_pools_that_fit_the_cluster(cluster):
    text = re.sub(r'\\\n|"\s*\n\s*"', " ", (DEPLOY / "README.md").read_text())
    text = re.sub('",?', "", text)
    commands = re.findall(r"-m jobs\.(?:submit|render) .*manifest=.*", text)
    assert len(commands) >= 3
    # Ray starts these for the documented command (tests/jobs/deploy/test_cluster.py).
    types, machines = cluster["available_node_types"], {"features": 2, "render": 4}
    have = {
        name: float(sum(number * types[one]["resources"].get(name, 0) for one, number in machines.items()))
        for name in ("CPU", "GPU")
    }
    sized = [job for job in map(render_keys, commands) if job.render.workers]
    assert sized
    for job in sized:
        pools = plan_pools(job.features, job.render, job.qc, have)
        assert pools.render.workers * pools.render.num_gpus == have["GPU"]
        features, render = (types[name]["resources"]["CPU"] for name in machines)
        assert pools.features.workers <= machines["features"] * int(features / pools.features.num_cpus)
        assert render - pools.render.num_cpus < pools.features.num_cpus


def test_the_readmes_training_has_keys_that_exist_and_fits_its_group(cluster):
    text = re.sub(r"\\\n", " ", (DEPLOY / "README.md").read_text())
    [prepare], [train] = (re.findall(rf"-m jobs\.{name} (.*=.*)", text) for name in ("prepare", "train"))
    assert load_config(PrepareJob, shlex.split(prepare)).source.startswith("s3://")
    job = load_config(Train, shlex.split(train))
    group = cluster["available_node_types"]["train"]
    have = {name: float(number * group["max_workers"]) for name, number in group["resources"].items()}
    assert plan_workers(job.workers, have).num_workers == 4
    assert job.workers.cpus * job.workers.number <= group["resources"]["CPU"]  # all in one machine
    assert job.workers.gpus * job.workers.number == group["resources"]["GPU"]


def test_the_readmes_examples_are_python_yaml_and_shell():
    for code in blocks("python"):
        ast.parse(code)
    assert any("DAG(" in code for code in blocks("python"))
    assert "CronWorkflow" in [yaml.safe_load(text)["kind"] for text in blocks("yaml")]
    for script in blocks("sh"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


# --- A real cluster --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head():
    """Environment of those who submit to a running cluster: a head without CPUs and one worker with four.

    `ray stop` would end every Ray on the machine, so both nodes are ended by their own processes.
    """
    first = free_ports(7)
    gcs, dashboard, client, *rest = range(first, first + 7)
    folder = tempfile.mkdtemp(prefix="fc-", dir="/tmp")  # short: the path of a socket has at most 107 characters
    # Ray starts one of its servers by a shell, with the path of Python unquoted: it gets one without spaces.
    Path(folder, "venv").symlink_to(sys.prefix)
    python = Path(folder, "venv", "bin", "python")
    foreign = re.compile("RAY_|PYTHONPATH$|VIRTUAL_ENV$")  # the job's code comes with the job
    environment = {name: value for name, value in os.environ.items() if not foreign.match(name)} | {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(POISON),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "t" * 32,
        "RAY_JOB_STOP_WAIT_TIME_S": "120",
        "RAY_worker_niceness": "0",  # as in tests/conftest.py
        "RAY_gcs_server_request_timeout_seconds": "300",  # beside other work it starts slowly
    }
    common = ["--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1", f"--object-store-memory={200 * 2**20}"]
    common += ["--min-worker-port=0", "--max-worker-port=0"]  # any that are free
    common += ["--include-log-monitor=false"]  # as in `clusters.HEAD`: parts that nobody needs here
    head_options = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    head_options += ["--no-monitor"]
    address = f"http://127.0.0.1:{dashboard}"
    nodes = []
    with Path(folder, "log").open("w") as log:

        def start(there, *options):
            """A node, until it is `there`. Ray gives a node half a minute, which may be little beside other work."""
            agent, metrics = rest.pop(), rest.pop()
            ports = [f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"]
            command = [python, "-m", "ray.scripts.scripts", "start", *common, *ports, *options]
            for tries_left in (3, 2, 1, 0):
                nodes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
                try:
                    wait_until_there(there, nodes[-1], log)
                    return
                except RuntimeError:
                    end([nodes.pop()])
                    if not tries_left:
                        raise

        try:
            head = ["--head", "--num-cpus=0", f"--temp-dir={folder}/ray", *head_options]
            start(lambda: known_cpus(address, environment) == [0], *head)
            # A machine of its own has a folder of its own: in a shared one Ray's worker, which unpacks the code anew
            # where it finds it, would remove it under the job's driver.
            worker = [f"--address=127.0.0.1:{gcs}", "--num-cpus=4", f"--temp-dir={folder}/worker"]
            start(lambda: 4 in known_cpus(address, environment), *worker)
            yield environment | {"RAY_ADDRESS": address}
        finally:
            end(nodes)
            shutil.rmtree(folder, ignore_errors=True)


def wait_until_there(there, node, log, seconds=300):
    end_of_patience = time.monotonic() + seconds
    while time.monotonic() < end_of_patience and node.poll() is None:
        with contextlib.suppress(OSError):
            if there():
                return
        time.sleep(0.2)
    raise RuntimeError(f"the node did not start:\n{Path(log.name).read_text()[-3000:]}")


def known_cpus(dashboard, environment):
    """CPUs of each node, as the dashboard knows them; `ray status` takes seconds each time."""
    token = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
    with urllib.request.urlopen(urllib.request.Request(f"{dashboard}/nodes?view=summary", headers=token)) as answer:
        nodes = json.load(answer)["data"]["summary"]
    return [node["raylet"].get("resourcesTotal", {}).get("CPU", 0) for node in nodes]


def end(nodes):
    """Kill both sessions: a head that had jobs takes half a minute on SIGTERM. Workers end with the node they serve."""
    for node in nodes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def test_a_job_takes_the_code_and_the_bundled_model_along_and_no_other_weights_videos_or_environments(tmp_path):
    checkout = tmp_path / "checkout"
    code = {"jobs/render.py", "models/float.py", "models/fast/decoder.py", "models/pocket/model.safetensors"}
    code |= {"models/learning/losses.py", "pipeline/face/face_models/detector.tflite"}
    other = {"models/float/model.safetensors", "float.pth", "out/videos/a.mp4", ".venv/bin/python", ".git/HEAD"}
    for name in code | other:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, checkout)
    excludes = get_runtime_env_default_excludes()
    create_package(str(checkout), tmp_path / "package.zip", include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(tmp_path / "package.zip") as package:
        packed = {name for name in package.namelist() if not name.endswith("/")}
    assert packed == code | {".gitignore", ".rayignore"}


def write_clips(folder, clips, bad=()):
    """A manifest whose files stand beside it, under relative paths -> its path."""
    shutil.copy(media.PORTRAIT, folder / "portrait.png")
    shutil.copy(media.SPEECH, folder / "speech.wav")
    rows = [{"clip_id": f"c{i}", "image": "portrait.png", "audio": "speech.wav", "seed": i} for i in range(clips)]
    rows += [rows[0] | {"clip_id": clip_id, "audio": "nowhere.wav"} for clip_id in bad]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "m.jsonl"


def summary(folder):
    return json.loads((folder / "out" / "summary.json").read_text())


def submit(environment, *arguments, tries=1, job="render"):
    command = [sys.executable, "-m", "jobs.submit", f"--tries={tries}", "--pause=0", f"--job={job}", "--", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_submitted_job_renders_the_demo_by_the_bundled_model(head, tmp_path):
    """As a person's first submission does, who names no model; here one of the six clips, in the driver.

    By workers of the cluster a submitted job renders below (`ray job stop`).
    """
    keys = [f"output={tmp_path / 'out'}", "limit=1", "executor=serial"]
    command = ["ray", "job", "submit", f"--working-dir={ROOT}", "--", "python", "-m", "jobs.render", *keys]
    done = subprocess.run(command, env=head, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    end = summary(tmp_path)
    assert (end["state"], end["exit_code"], end["done"]) == ("finished", 0, 1)
    [video] = (tmp_path / "out" / "videos").iterdir()
    assert video.name.split(".")[0] == "en-1"
    assert media.pictures(str(video)).shape[0] > 25


@pytest.mark.slow
def test_videos_are_prepared_and_a_model_is_trained_on_them_by_submitted_jobs(head, tiny_model, tmp_path):
    (tmp_path / "films" / "anna").mkdir(parents=True)
    SyntheticVideo(wave=speech(1.2)).write(tmp_path / "films" / "anna" / "one.mp4")
    prepared, trained = tmp_path / "prepared", tmp_path / "trained"
    small = [f"clips.{name}={value}" for name, value in reels.SMALL.items()]
    # On Ray it is tested in `test_prepare`.
    done = submit(head, f"source={tmp_path / 'films'}", f"output={prepared}", "executor=serial", *small, job="prepare")
    assert done.returncode == 0, done.stdout + done.stderr
    keys = [
        f"data={prepared}",
        f"output={trained}",
        f"model={tiny_model.path}",
        "stage=autoencoder",
        "optimiser.steps=2",
    ]
    keys += ["optimiser.batch=2", "reconstruction.critic_width=0.02", "workers.number=1"]
    command = ["ray", "job", "submit", f"--working-dir={ROOT}", "--", "python", "-m", "jobs.train", *keys]
    done = subprocess.run(command, env=head, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 2 of 2" in done.stdout  # what workers say reaches the job's log
    assert ModelFolder.open(trained / "model").history[0]["stage"] == "autoencoder"


@pytest.mark.slow
def test_a_job_whose_tunnel_is_lost_is_found_again_and_with_a_bad_clip_fails_and_is_not_submitted_twice(
    head, tiny_model, tmp_path
):
    manifest = write_clips(tmp_path, 1, ["bad"])
    manifest.write_text(manifest.read_text().replace("speech.wav", f"gate://{tmp_path}/speech.wav"))
    keys = [f"manifest={manifest}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}", "executor=serial"]
    keys += ["limits.allowed_schemes=[file,gate]", "qc.enabled=false"]
    with Relay(int(head["RAY_ADDRESS"].rsplit(":", 1)[1])) as relay:

        def lose_it_for_a_while():
            while not (tmp_path / "speech.wav.asked").exists():
                time.sleep(0.2)
            relay.cut()
            time.sleep(20)
            relay.mend()
            (tmp_path / "speech.wav.open").touch()

        threading.Thread(target=lose_it_for_a_while, daemon=True).start()
        arguments = [f"--address=http://127.0.0.1:{relay.port}", "--tries=50", "--pause=1", "--", *keys]
        code = f"from jobs import submit; submit.PATIENCE_SECONDS = 3.0; raise SystemExit(submit.main({arguments!r}))"
        # Of two addresses the one that is given counts: $RAY_ADDRESS is the head's own, and is not cut off.
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=head, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(jobs(done.stdout)) == 1
    assert f"job {jobs(done.stdout)[0]}: found again" in done.stdout, done.stdout + done.stderr
    end = summary(tmp_path)
    assert (end["state"], end["exit_code"], end["done"], end["rejected"]) == ("finished", 1, 1, 1)
    listed = subprocess.run(["ray", "job", "status", *jobs(done.stdout)], env=head, capture_output=True, text=True)
    assert "failed" in listed.stdout + listed.stderr


@pytest.mark.slow
def test_what_is_refused_is_not_tried_again_and_a_cluster_that_is_too_small_is(head, tiny_model, tmp_path):
    relative = submit(head, f"manifest={write_clips(tmp_path, 1)}", "output=out", f"model={tiny_model.path}", tries=2)
    assert relative.returncode == 2, relative.stdout + relative.stderr
    assert "output: 'out' would be inside the copy of the working directory" in relative.stdout
    assert len(jobs(relative.stdout)) == 1
    keys = [f"manifest={write_clips(tmp_path, 1)}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}"]
    small = submit(head, *keys, "render.workers=99", tries=2)
    assert small.returncode == 3, small.stdout + small.stderr
    assert "the cluster has 4 CPUs" in small.stdout
    assert len(jobs(small.stdout)) == 2
    assert summary(tmp_path)["exit_code"] == 3


@pytest.mark.parametrize("job", JOBS)
def test_every_job_that_is_submitted_refuses_an_output_that_would_be_lost(job, tmp_path):
    keys = {"render": ["manifest=m.csv"], "train": ["stage=autoencoder", "data=d", "model=m", "optimiser.steps=1"]}
    keys |= {"prepare": ["source=s"], "evaluate": ["manifest=p.csv"]}
    done = run_job(job, *keys[job], "output=out", cwd=tmp_path, RAY_JOB_CONFIG_JSON_ENV_VAR="{}")
    assert done.returncode == 2
    assert "output: 'out' would be inside the copy of the working directory" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("how", "executor"), [("ray job stop", "ray"), ("SIGTERM", "serial")])
def test_a_job_that_is_stopped_says_so_and_keeps_what_is_done(head, tiny_model, tmp_path, how, executor):
    """Stopped by its name, or with the process that waits for it; the next run goes on."""
    manifest = write_clips(tmp_path, 1)
    closed = f"gate://{tmp_path / 'speech.wav'}"  # the job cannot end before it is stopped
    rows = [json.loads(manifest.read_text()), {"clip_id": "waits", "image": "portrait.png", "audio": closed}]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    keys = [f"manifest={manifest}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}"]
    keys += ["render.unit_seconds=1", "limits.allowed_schemes=[file,s3,gate]"]
    command = [sys.executable, "-m", "jobs.submit", "--", *keys, f"executor={executor}"]
    job = subprocess.Popen(command, cwd=ROOT, env=head, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end_of_patience = time.monotonic() + 600
    while not list((tmp_path / "out" / "done").glob("*.json")) and job.poll() is None:
        assert time.monotonic() < end_of_patience
        time.sleep(0.1)
    if how == "SIGTERM":
        job.terminate()
    else:
        name = next(found for line in job.stdout for found in jobs(line))
        stopped = subprocess.run(["ray", "job", "stop", name], env=head, capture_output=True, text=True, timeout=300)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    output, _ = job.communicate(timeout=300)
    assert job.returncode == 130, output
    before = check_interrupted(tmp_path / "out", done=1)
    (tmp_path / "speech.wav.open").touch()
    again = run_job("render", *keys, "executor=serial")
    assert again.returncode == 0, again.stdout + again.stderr
    check_gone_on(tmp_path / "out", before)


def jobs(output):
    return re.findall(r"^job (\S+)$", output, re.MULTILINE)


# --- The entrypoint of a RayJob, which runs a program that plays jobs.render ---------------------------------------


@dataclass(frozen=True)
class Entrypoint:
    """Starts the entrypoint of rayjob.yaml on a head."""

    client: JobSubmissionClient
    variables: dict[str, str]

    def start(self, code="", stopped=""):
        """Ends with `code`; or touches the file `stopped`, if it is given, when it is stopped."""
        variables = self.variables | {"CODE": str(code), "STOPPED": str(stopped)}
        return self.client.submit_job(entrypoint=RAYJOB["spec"]["entrypoint"], runtime_env={"env_vars": variables})

    def ended(self, job, seconds=300):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            info = self.client.get_job_info(job)
            if info.status.is_terminal():
                return info
            time.sleep(0.2)
        raise TimeoutError(self.client.get_job_logs(job))


@pytest.fixture
def entrypoint(head, tmp_path):
    """Jobs find a `python` there that runs jobs.rayjob, and plays jobs.render."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/bash\n[ "$2" = jobs.rayjob ] && exec {shlex.quote(sys.executable)} "$@"\n'
        '[ "$2" = jobs.render ] || exit 99\n'
        "trap 'sleep 2; touch \"$STOPPED\"; exit 130' TERM\n"
        '[ -z "$STOPPED" ] && exit "$CODE"\ntouch "$STOPPED.soon"\nwhile :; do sleep 0.1; done\n'
    )
    python.chmod(0o755)
    client = JobSubmissionClient(head["RAY_ADDRESS"], headers={"Authorization": f"Bearer {head['RAY_AUTH_TOKEN']}"})
    return Entrypoint(client, {"PATH": f"{python.parent}:{head['PATH']}", "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
def test_ray_gives_the_job_the_status_that_stops_or_allows_another_try(head, entrypoint):
    """A job that is done, one of those that end for good, and one of those that are tried again."""
    jobs = {code: entrypoint.start(code) for code in (0, 2, 3)}
    ends = {code: entrypoint.ended(job) for code, job in jobs.items()}
    logs = {code: entrypoint.client.get_job_logs(job) for code, job in jobs.items()}
    assert {code: info.status.value for code, info in ends.items()} == {
        code: kubernetes_end(code)[0] for code in jobs
    }, logs
    said = {code for code, log in logs.items() if f"exit code {code}: another try would change nothing" in log}
    assert said == {2}
    # The pod that submits ends with this command. If it failed, KubeRay would try the stopped job again.
    subprocess.run(["ray", "job", "logs", "--follow", jobs[2]], env=head, check=True)
    assert {code: ends[code].driver_exit_code for code in (0, 3)} == {0: 0, 3: 3}


@pytest.mark.slow
def test_a_rayjob_that_is_stopped_writes_its_last_files_before_the_entrypoint_ends(entrypoint, tmp_path):
    stopped = tmp_path / "stopped"
    job = entrypoint.start(stopped=stopped)
    while not Path(f"{stopped}.soon").exists():
        assert not entrypoint.client.get_job_info(job).status.is_terminal(), entrypoint.client.get_job_logs(job)
        time.sleep(0.2)
    entrypoint.client.stop_job(job)
    assert entrypoint.ended(job).status == JobStatus.STOPPED
    assert stopped.exists()
