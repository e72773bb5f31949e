"""Two drills on imitated clusters with GPUs: one GPU is sick, and nodes are lost every few seconds."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from tests import media
from tests.clusters import HEAD

ROOT = Path(__file__).parents[2]
CLIPS = 12
HANG_SECONDS = 600


@pytest.fixture
def cluster(monkeypatch):
    """A head with CPUs and no GPU."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests' / 'poison'}:{ROOT}")
    cluster = Cluster(initialize_head=True, head_node_args=HEAD | {"num_cpus": 2, "object_store_memory": 100_000_000})
    yield cluster
    cluster.shutdown()


def gpu_node(cluster, number=2, gpus=1):
    # An address of its own, because a driver may join any node that has the address of its machine.
    has = {"num_cpus": gpus, "num_gpus": gpus, "object_store_memory": 100_000_000}
    return cluster.add_node(**has, node_ip_address=f"127.0.0.{number}", wait=False)


def start(cluster, model, folder, **environment):
    """jobs.render with two render workers, which count a GPU each and compute on CPUs."""
    (folder / "tone.wav").write_bytes(media.wav(media.tone(seconds=0.6)))
    rows = [
        {"clip_id": f"clip-{n}", "image": str(media.PORTRAIT), "audio": "tone.wav", "seed": n} for n in range(CLIPS)
    ]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-m", "jobs.render", f"manifest={folder}/m.jsonl", f"output={folder}/out"]
    command += [f"model={model.path}", f"address={cluster.address}", "qc.enabled=false", "render.unit_seconds=1"]
    command += ["features.workers=1", "render.workers=2", "render.num_gpus=1", "render.device=cpu"]
    with (folder / "output.txt").open("w") as output:  # a pipe that nobody reads would stop a job that prints much
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=os.environ | environment
        )


def outcome(job, folder):
    """(exit code, output, rows by clip)."""
    job.wait(HANG_SECONDS)
    output = (folder / "output.txt").read_text()
    rows = pq.read_table(folder / "out" / "clips.parquet").to_pylist()
    assert len(rows) == CLIPS
    return job.returncode, output, {row["clip_id"]: row for row in rows}


@pytest.mark.slow
def test_a_sick_gpu_is_retired_and_no_healthy_clip_is_quarantined(cluster, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOATCAST_SICK_GPU", "1")
    monkeypatch.setenv("FLOATCAST_SICK_LOG", str(tmp_path / "sick.log"))
    (tmp_path / "sick.log").touch()
    gpu_node(cluster, gpus=2)
    cluster.wait_for_nodes(HANG_SECONDS)
    code, output, rows = outcome(start(cluster, tiny_model, tmp_path), tmp_path)
    assert code == 0, output
    assert {row["status"] for row in rows.values()} == {"done"}, output
    assert "GPU 1 on node" in output
    assert "gets no more work of the stage render" in output
    assert not list((tmp_path / "out").glob("attempts/*"))


@pytest.mark.slow
def test_nodes_that_are_lost_every_few_seconds_quarantine_nothing(cluster, tiny_model, tmp_path):
    nodes = [gpu_node(cluster, 2), gpu_node(cluster, 3)]
    cluster.wait_for_nodes(HANG_SECONDS)
    job = start(cluster, tiny_model, tmp_path)
    done, lost = tmp_path / "out" / "done", 0
    while job.poll() is None:
        # A node is lost after every second clip: an event, so that a slow machine gets on as well.
        if len(list(done.glob("clip-*.json"))) >= 2 * (lost + 1) and lost < 4:
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
            lost += 1
            nodes.append(gpu_node(cluster, 3 + lost))
        time.sleep(0.1)
    code, output, rows = outcome(job, tmp_path)
    assert code == 0, output
    assert {row["status"] for row in rows.values()} == {"done"}, output
    assert lost >= 3
    # Each clip was committed once: one record and one video.
    assert len(list(done.iterdir())) == len(list((tmp_path / "out" / "videos").iterdir())) == CLIPS
    assert not list((tmp_path / "out").glob("attempts/*"))
