"""A drill on an imitated cluster with GPUs: one GPU is sick, and then nodes are lost every few seconds."""

import json
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
CLIPS = 18
BEFORE = 10
"""So many clips are rendered while one GPU is sick, those after them when it is retired. The others hold two each."""
HANG_SECONDS = 600


@pytest.fixture
def cluster(monkeypatch):
    """A head with CPUs and no GPU."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests' / 'poison'}:{ROOT}")
    cluster = Cluster(initialize_head=True, head_node_args=HEAD | {"num_cpus": 2, "object_store_memory": 100_000_000})
    yield cluster
    cluster.shutdown()


def gpu_node(cluster, number, gpus=1):
    # An address of its own, because a driver may join any node that has the address of its machine.
    has = {"num_cpus": gpus, "num_gpus": gpus, "object_store_memory": 100_000_000}
    return cluster.add_node(**has, node_ip_address=f"127.0.0.{number}", wait=False)


def start(cluster, model, folder):
    """jobs.render with three render workers, which count a GPU each and compute on CPUs."""
    (folder / "tone.wav").write_bytes(media.wav(media.tone(seconds=0.6)))
    rows = [
        {"clip_id": f"clip-{n}", "image": str(media.PORTRAIT), "audio": "tone.wav", "seed": n} for n in range(CLIPS)
    ]
    rows[BEFORE]["audio"] = f"gate://{folder}/tone.wav"
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-m", "jobs.render", f"manifest={folder}/m.jsonl", f"output={folder}/out"]
    command += [f"model={model.path}", f"address={cluster.address}", "qc.enabled=false", "render.unit_seconds=1"]
    command += ["features.workers=1", "render.workers=3", "render.num_gpus=1", "render.device=cpu"]
    command += ["limits.allowed_schemes=[file,gate]"]
    with (folder / "output.txt").open("w") as output:  # a pipe that nobody reads would stop a job that prints much
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)


@pytest.mark.slow
def test_a_sick_gpu_is_retired_and_nodes_are_lost_every_few_seconds_and_nothing_is_quarantined(
    cluster, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("FLOATCAST_SICK_GPU", "1")
    monkeypatch.setenv("FLOATCAST_SICK_LOG", str(tmp_path / "sick.log"))
    (tmp_path / "sick.log").touch()
    gpu_node(cluster, 2, gpus=2)  # one of the two is sick
    node = gpu_node(cluster, 3)
    cluster.wait_for_nodes(HANG_SECONDS)
    job = start(cluster, tiny_model, tmp_path)
    output, done, lost = tmp_path / "output.txt", tmp_path / "out" / "done", 0
    try:
        while job.poll() is None:
            time.sleep(0.1)
            if not lost and "gets no more work of the stage render" not in output.read_text():
                continue
            (tmp_path / "tone.wav.open").touch()
            # A node is lost after every second clip: an event, so that a slow machine gets on as well.
            if len(list(done.glob("clip-*.json"))) >= BEFORE + 2 * lost and lost < 3:
                cluster.remove_node(node, allow_graceful=False)
                lost += 1
                node = gpu_node(cluster, 3 + lost)
    finally:
        job.kill()
    assert job.returncode == 0, output.read_text()
    rows = pq.read_table(tmp_path / "out" / "clips.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["done"] * CLIPS, output.read_text()
    assert "GPU 1 on node" in output.read_text()
    assert lost == 3
    # Each clip was committed once: one record and one video.
    assert len(list(done.iterdir())) == len(list((tmp_path / "out" / "videos").iterdir())) == CLIPS
    assert not list((tmp_path / "out").glob("attempts/*"))
