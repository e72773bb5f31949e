"""What is asked of Ray Train for the workers, and a run that goes on with fewer when a node is lost."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline.nodes import ClusterError

from pipeline.training.curves import read_curves
from pipeline.training.settings import WorkerSettings
from pipeline.training.trainer import plan_workers
from tests.prepared import write_prepared


def test_workers_are_one_per_gpu_and_one_without():
    on_gpus = plan_workers(WorkerSettings(), {"CPU": 64, "GPU": 8})
    assert (on_gpus.num_workers, on_gpus.use_gpu, on_gpus.resources_per_worker) == (8, True, {"CPU": 1, "GPU": 1})
    on_cpus = plan_workers(WorkerSettings(cpus=4), {"CPU": 16})
    assert (on_cpus.num_workers, on_cpus.use_gpu, on_cpus.resources_per_worker) == (1, False, {"CPU": 4})
    off_gpus = plan_workers(WorkerSettings(number=3, gpus=0), {"CPU": 16, "GPU": 8})
    assert (off_gpus.num_workers, off_gpus.use_gpu) == (3, False)
    elastic = plan_workers(WorkerSettings(number=8, least=2), {"CPU": 64, "GPU": 4})
    assert elastic.num_workers == (2, 8)


def test_what_a_cluster_cannot_hold_is_said():
    with pytest.raises(ClusterError, match=r"16 CPUs and 2 GPUs, and 4 workers need 4 and 4.*lower workers\.number"):
        plan_workers(WorkerSettings(number=4), {"CPU": 16, "GPU": 2})
    with pytest.raises(ClusterError, match="2 workers need 16 and 0"):
        plan_workers(WorkerSettings(number=4, least=2, cpus=8), {"CPU": 8})


STEPS = 1200

ELASTIC = """
import glob, json, sys, threading, time
import ray
import psutil  # Ray's own
from ray.cluster_utils import Cluster
from jobs.cluster import give_python_a_path_without_spaces
from pipeline.training.run import TrainJob
from pipeline.training.settings import WorkerSettings
from pipeline.training.trainer import fit, plan_workers
from tests.pipeline.test_training import settings_of

give_python_a_path_without_spaces()
data, model, output, loses, STEPS = *sys.argv[1:4], sys.argv[4] == "loses", int(sys.argv[5])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
settings = settings_of("motion", data, steps=STEPS)
# Many checkpoints: a fast machine is not to be done before the second one is seen here.
settings.watch.validate_every, settings.watch.save_every = 10_000, 40 if loses else 600

def lose():
    while len(glob.glob(output + "/checkpoints/checkpoint_*")) < 2:
        time.sleep(0.05)
    # A machine is lost with all its processes at once; without this its worker trains until it misses its raylet.
    raylet = psutil.Process(other.all_processes["raylet"][0].process.pid)
    workers = raylet.children(recursive=True)
    for worker in workers:
        worker.suspend()
    cluster.remove_node(other, allow_graceful=False)
    for worker in workers:
        worker.kill()
    print("LOST", flush=True)

if loses:
    threading.Thread(target=lose, daemon=True).start()
workers = WorkerSettings(number=2, least=1)
scaling = plan_workers(workers, ray.cluster_resources())
job = TrainJob(settings, model, output, "elastic")
fit(job, scaling, keep=100, max_failures=3, say=lambda line: print(line, flush=True))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_run_that_loses_a_node_goes_on_with_fewer_workers_and_the_same_losses(tiny_model, tmp_path):
    data = write_prepared(str(tmp_path / "data"))
    root = Path(__file__).parents[2]
    found, said = {}, {}
    for how in ("keeps", "loses"):
        output = tmp_path / how
        done = subprocess.run(
            [sys.executable, "-c", ELASTIC, data, str(tiny_model.path), str(output), how, str(STEPS)],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root), "RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found[how] = {step: value for step, name, value in read_curves(str(output)) if name == "train/loss"}
        said[how] = re.findall(r"motion: from (.*) to step \d+, (\d) workers", done.stdout)
    assert said["keeps"] == [("the start", "2")]
    assert said["loses"][0] == ("the start", "2")
    begun, workers = said["loses"][-1]
    assert workers == "1"
    assert re.fullmatch(r"step \d+", begun)
    assert list(found["loses"]) == list(found["keeps"]) == list(range(1, STEPS + 1))
    # Rounding differs with the number of workers, and grows from step to step.
    early = range(1, 60)
    assert [found["loses"][i] for i in early] == pytest.approx([found["keeps"][i] for i in early], rel=1e-2)
    assert json.loads((tmp_path / "loses" / "model" / "config.json").read_text())["history"][-1]["steps"] == STEPS
