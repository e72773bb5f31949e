"""What is asked of Ray Train for the workers, and a run that goes on with fewer when a node is lost."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.errors import ClusterError
from pipeline.training.curves import read_curves
from pipeline.training.run import TrainJob, run_worker
from pipeline.training.settings import WorkerSettings
from pipeline.training.trainer import plan_workers
from pipeline.training.world import World
from tests.pipeline.training.test_training import ADVERSARIAL
from tests.pipeline.training.test_training import settings_of as training_settings


def test_workers_are_one_per_gpu_and_one_without():
    on_gpus = plan_workers(WorkerSettings(), {"CPU": 64, "GPU": 8})
    assert (on_gpus.num_workers, on_gpus.use_gpu, on_gpus.resources_per_worker) == (8, True, {"CPU": 1, "GPU": 1})
    on_cpus = plan_workers(WorkerSettings(cpus=4), {"CPU": 16})
    assert (on_cpus.num_workers, on_cpus.use_gpu, on_cpus.resources_per_worker) == (1, False, {"CPU": 4})
    off_gpus = plan_workers(WorkerSettings(number=3, gpus=0), {"CPU": 16, "GPU": 8})
    assert (off_gpus.num_workers, off_gpus.use_gpu) == (3, False)
    elastic = plan_workers(WorkerSettings(number=8, least=2), {"CPU": 64, "GPU": 4})
    assert elastic.num_workers == (2, 8)


def test_what_a_cluster_cannot_hold_is_reported():
    with pytest.raises(
        ClusterError, match=r"16 CPUs and 2 GPUs, but 4 workers need 4 CPUs and 4 GPUs.*lower workers\.number"
    ):
        plan_workers(WorkerSettings(number=4), {"CPU": 16, "GPU": 2})
    with pytest.raises(ClusterError, match="2 workers need 16 CPUs and 0 GPUs"):
        plan_workers(WorkerSettings(number=4, least=2, cpus=8), {"CPU": 8})


ELASTIC = """
import sys, threading
import ray
import psutil  # Ray's own
from ray.cluster_utils import Cluster
from pipeline.cluster.connect import give_python_a_path_without_spaces
from pipeline.training.run import TrainJob, run_worker
from pipeline.training.settings import WorkerSettings
from pipeline.training.trainer import fit, plan_workers
from tests.clusters import HEAD
from tests.pipeline.training.test_trainer import STEPS, settings_of

give_python_a_path_without_spaces()
data, model, output = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args=HEAD | {"num_cpus": 1})
other = cluster.add_node(num_cpus=1)
ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)

def work(job, world, say):
    def waits(line):
        say(line)
        if world.size == 2 and line.startswith("step 5 of"):
            threading.Event().wait()  # the node is lost here, and not where a fast machine would be by then
    run_worker(job, world, waits)

def say(line):
    print(line, flush=True)
    if line.startswith("step 5 of") and "per worker x 2" in line:
        lose()

def lose():
    # A machine is lost with all its processes at once; without this its worker trains until it misses its raylet.
    raylet = psutil.Process(other.all_processes["raylet"][0].process.pid)
    workers = raylet.children(recursive=True)
    for worker in workers:
        worker.suspend()
    cluster.remove_node(other, allow_graceful=False)
    for worker in workers:
        worker.kill()

scaling = plan_workers(WorkerSettings(number=2, least=1), ray.cluster_resources())
fit(TrainJob(settings_of(data), model, output, "elastic"), scaling, max_failures=3, say=say, work=work)
ray.shutdown()
cluster.shutdown()
"""

STEPS = 7


def settings_of(data):
    settings = training_settings("autoencoder", data, STEPS, reconstruction=ADVERSARIAL)
    settings.watch.save_every = settings.watch.validate_every = 2
    return settings


IMPATIENT = {
    # Ray Train looks at its workers every two seconds by itself.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Until it knows that the node is gone, it waits a minute at a time for room for two workers.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5",
}


@pytest.mark.slow
def test_a_run_that_loses_a_node_continues_with_fewer_workers_and_the_same_losses(prepared, tiny_model, tmp_path):
    """Also: two workers of Ray learn what one process does."""
    alone, output = tmp_path / "alone", tmp_path / "loses"
    run_worker(TrainJob(settings_of(prepared), str(tiny_model.path), str(alone), "alone"), World(), print)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", ELASTIC, prepared, str(tiny_model.path), str(output)],
        cwd=root,
        env=os.environ | IMPATIENT | {"PYTHONPATH": str(root), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    begun = re.findall(r"autoencoder: from (.*) to step \d+, (\d) workers", done.stdout)
    assert begun[:2] == [("the start", "2"), ("step 4", "1")]
    assert set(begun[2:]) <= {("step 4", "1"), ("step 6", "1")}  # Ray Train may start its workers more than once
    found, expected = (
        {step: value for step, name, value in read_curves(str(folder)) if name == "train/loss"}
        for folder in (output, alone)
    )
    assert list(found) == list(expected) == list(range(1, STEPS + 1))
    # Rounding differs with the number of workers, and grows from step to step.
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-3)
    assert json.loads((output / "model" / "config.json").read_text())["history"][-1]["steps"] == STEPS
