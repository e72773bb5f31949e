"""Jobs as a cluster gets them: `ray job submit` to a real head; the launcher's and KubeRay's files by their schemas."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import av
import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.config import load_config
from jobs.render import RenderJob
from tests import media
from tests.conftest import free_ports

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "jobs" / "deploy"

# --- Files -----------------------------------------------------------------------------------------------------


def test_cluster_yaml_is_what_ray_s_schema_and_launcher_take(monkeypatch):
    monkeypatch.chdir(ROOT)  # file_mounts start at the checkout
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):  # the schema can say no
        jsonschema.validate(config | {"max_workers": "many"}, schema)
    validate_config(prepare_config(config))
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for group in types.values():
        assert group["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert group["min_workers"] < group["max_workers"] <= config["max_workers"]


def test_cluster_yaml_has_nothing_to_edit_but_region_key_and_bucket():
    marked = [
        line.split(":")[0].strip(" -") for line in (ROOT / "cluster.yaml").read_text().splitlines() if "# EDIT" in line
    ]
    assert set(marked) == {"region", "ssh_private_key", "KeyName"}  # the bucket stands on the command line


def test_rayjob_runs_a_command_that_exists_and_keeps_no_secret():
    text = (DEPLOY / "rayjob.yaml").read_text()
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    python, flag, module, *arguments = job["spec"]["entrypoint"].split()
    assert (python, flag, module) == ("python", "-m", "jobs.render")
    config = load_config(RenderJob, arguments)
    assert config.output.startswith("s3://")
    assert config.wait_minutes > 0
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    render = next(group for group in cluster["workerGroupSpecs"] if group["groupName"] == "render")
    pod = render["template"]["spec"]
    assert pod["serviceAccountName"] == "floatcast"
    resources = pod["containers"][0]["resources"]["limits"]
    assert resources["nvidia.com/gpu"] == "1"
    assert float(resources["cpu"]) >= config.render.num_cpus
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert "AWS_SECRET" not in text


# --- A real head -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head():
    """Address of the job server of a Ray head in processes of its own."""
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    names += ("object-manager-port", "node-manager-port", "dashboard-agent-grpc-port", "runtime-env-agent-port")
    first = free_ports(len(names))
    folder = tempfile.mkdtemp(prefix="fc-", dir="/tmp")  # short: Ray puts sockets there
    command = [
        Path(sys.executable).with_name("ray"),
        "start",
        "--head",
        "--block",
        "--num-cpus=4",
        f"--temp-dir={folder}",
    ]
    command += ["--include-dashboard=true", "--disable-usage-stats", "--object-store-memory=300000000"]
    command += [f"--{name}={first + i}" for i, name in enumerate(names)]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{first + 1}"
    try:
        end = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/version", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < end, "the head did not start"
                assert process.poll() is None
                time.sleep(0.5)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def ray_job(head, *arguments, timeout=400):
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    verb, *rest = arguments
    command = [Path(sys.executable).with_name("ray"), "job", verb, "--address", head, *rest]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


def submit(head, tmp_path, model, rows, *options):
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = [sys.executable, "-m", "jobs.render", f"manifest={tmp_path / 'm.jsonl'}", f"output={tmp_path / 'out'}"]
    return ray_job(head, "submit", *options, "--working-dir", ".", "--", *job, f"model={model.path}")


@pytest.mark.slow
def test_a_submitted_job_renders_and_the_next_one_goes_on(head, tiny_model, tmp_path):
    good = {"image": str(media.PORTRAIT), "audio": str(media.SPEECH)}
    rows = [good | {"clip_id": "a"}, good | {"clip_id": "b", "seed": 1}]
    done = submit(head, tmp_path, tiny_model, rows)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["state"], summary["exit_code"], summary["done"]) == ("finished", 0, 2)
    for clip_id in "ab":
        (path,) = (tmp_path / "out" / "videos").glob(f"{clip_id}.*.mp4")
        with av.open(path) as file:
            assert sum(1 for _ in file.decode(file.streams.video[0])) > 25
    again = submit(head, tmp_path, tiny_model, [*rows, good | {"clip_id": "c", "audio": "/nowhere/c.wav"}])
    assert again.returncode != 0
    assert "1 new, 0 changed, 2 done before" in again.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["state"], summary["exit_code"], summary["done"], summary["rejected"]) == ("finished", 1, 2, 1)


@pytest.mark.slow
def test_a_job_that_is_stopped_leaves_a_state_to_go_on_from(head, tiny_model, tmp_path):
    good = {"image": str(media.PORTRAIT), "audio": str(media.SPEECH)}
    rows = [good | {"clip_id": f"c{i}", "seed": i} for i in range(60)]
    begun = submit(head, tmp_path, tiny_model, rows, "--no-wait", "--submission-id", tmp_path.name)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    done = tmp_path / "out" / "done"
    end = time.monotonic() + 200
    while not done.exists() or len(list(done.glob("*.json"))) < 2:
        assert time.monotonic() < end, ray_job(head, "logs", tmp_path.name).stdout
        time.sleep(0.2)
    stopped = ray_job(head, "stop", tmp_path.name)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["state"], summary["exit_code"]) == ("interrupted", 130), ray_job(head, "logs", tmp_path.name).stdout
    assert 2 <= summary["done"] < 60
    assert not (tmp_path / "out" / "run.lock").exists()
