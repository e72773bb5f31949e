"""A job on a cluster that loses workers, a node, its driver and every tenth answer of its storage."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import s3fs
from ray.cluster_utils import Cluster

from tests import media

ROOT = Path(__file__).parents[2]
MARK = "FLOATCAST_CHAOS"
CLIPS, SECONDS = 56, 1.0
POISON = {
    "kills-its-worker": ("quarantined", "worker_died"),
    "no-such-file": ("rejected", "input_not_found"),
    "text-as-sound": ("rejected", "audio_unreadable"),
    "no-face": ("rejected", "face_not_found"),
}


def workers():
    """Processes of this test's cluster that render or compute features."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"ray::MapWorker" in command and MARK.encode() in (folder / "environ").read_bytes():
                yield int(folder.name)
        except OSError:  # it ended, or is another user's
            continue


class Killer(threading.Thread):
    """Kills a worker at random every few seconds."""

    def __init__(self, times):
        super().__init__(daemon=True)
        self.left, self.killed, self.stop = times, 0, threading.Event()

    def run(self):
        while self.left and not self.stop.wait(random.uniform(4, 8)):
            victims = list(workers())
            if victims:
                os.kill(random.choice(victims), signal.SIGKILL)
                self.left, self.killed = self.left - 1, self.killed + 1


def write_manifest(fs, root, path):
    fs.put_file(str(media.PORTRAIT), f"{root}/in/portrait.png")
    fs.pipe_file(f"{root}/in/text.wav", media.TEXT)
    fs.pipe_file(f"{root}/in/no-face.png", media.picture(np.full((256, 256, 3), 128, np.uint8)))
    good = {"image": "in/portrait.png", "audio": "in/tone.wav"}
    fs.pipe_file(f"{root}/in/tone.wav", media.wav(media.tone(seconds=SECONDS)))
    rows = [good | {"clip_id": f"clip-{i:02}", "seed": i} for i in range(CLIPS)]
    changes = ({"image": "poison://x"}, {"audio": "in/none.wav"}, {"audio": "in/text.wav"}, {"image": "in/no-face.png"})
    for i, (clip_id, change) in enumerate(zip(POISON, changes, strict=True)):
        rows.insert(7 * (i + 1), good | change | {"clip_id": clip_id})
    path.write_text("\n".join(map(json.dumps, rows)))
    fs.put_file(str(path), f"{root}/m.jsonl")


def done_on(fs, root):
    fs.invalidate_cache()
    try:
        return [name.rsplit("/", 1)[-1] for name in fs.ls(f"{root}/out/done", detail=False)]
    except FileNotFoundError:
        return []


def wait_for(fs, root, job, clips, seconds=240):
    end = time.monotonic() + seconds
    while len(done_on(fs, root)) < clips:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < end, "nothing goes on"
        time.sleep(0.5)


@pytest.mark.slow
def test_every_clip_ends_once_whatever_is_lost(tiny_model, tmp_path, s3, monkeypatch, request):
    random.seed(4)
    root, reliable = f"{s3}/chaos", os.environ["AWS_ENDPOINT_URL"]
    fs = s3fs.S3FileSystem(endpoint_url=reliable, skip_instance_cache=True)
    write_manifest(fs, root, tmp_path / "m.jsonl")
    requests = request.getfixturevalue("faulty_s3")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests' / 'poison'}:{ROOT}")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv(MARK, "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "object_store_memory": 200_000_000})
    spot = {"num_cpus": 1, "object_store_memory": 200_000_000}
    node = cluster.add_node(**spot)
    command = [sys.executable, "-m", "jobs.render", f"manifest={root}/m.jsonl", f"output={root}/out"]
    command += [f"model={tiny_model.path}", f"address={cluster.address}", "limits.allowed_schemes=[file,s3,poison]"]
    command += ["features.workers=2", "render.workers=2", "render.unit_seconds=3"]

    def start():
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    killer = Killer(times=4)
    try:
        job = start()
        wait_for(fs, root, job, 3)
        killer.start()
        wait_for(fs, root, job, 12)
        job.kill()  # the driver, without a word
        job.communicate()
        before = {name: fs.cat_file(f"{root}/out/done/{name}") for name in done_on(fs, root)}
        job = start()
        wait_for(fs, root, job, len(before) + 6)
        cluster.remove_node(node, allow_graceful=False)
        time.sleep(5)
        cluster.add_node(**spot)
        output, errors = job.communicate(timeout=420)
    finally:
        killer.stop.set()
        job.kill()
        cluster.shutdown()
    assert job.returncode == 1, output + errors
    assert killer.killed == 4

    fs.invalidate_cache()
    fs.get_file(f"{root}/out/clips.parquet", str(tmp_path / "clips.parquet"))
    rows = {row["clip_id"]: row for row in pq.read_table(tmp_path / "clips.parquet").to_pylist()}
    assert pq.read_metadata(tmp_path / "clips.parquet").num_rows == len(rows) == CLIPS + 4
    for clip_id, row in rows.items():
        assert (row["status"], row["error_code"]) == POISON.get(clip_id, ("done", None)), row
    # The second run starts from what is done ...
    planned = re.search(r"plan: \d+ new, 0 changed, (\d+) done before", output)
    assert planned is not None, output
    assert int(planned[1]) >= len(before) >= 12
    # ... of which nothing has changed,
    assert all(fs.cat_file(f"{root}/out/done/{name}") == content for name, content in before.items())
    # and each clip was committed once, with no video written after that.
    assert len(done_on(fs, root)) == CLIPS
    lines = [line.split(" ", 2) for line in requests.read_text().splitlines()]
    committed = set()
    for method, status, path in lines:
        found = re.search(r"/out/(done|videos)/([a-z0-9-]+)\.", path)
        if method in ("PUT", "POST") and status == "200" and found:
            assert found[2] not in committed, f"{path} was written after its clip was done"
            if found[1] == "done":
                committed.add(found[2])
    assert committed == {clip_id for clip_id, row in rows.items() if row["status"] == "done"}
    # What readers see are whole videos.
    for row in rows.values():
        if row["status"] == "done":
            fs.get_file(row["uri"], str(tmp_path / "video.mp4"))
            with av.open(tmp_path / "video.mp4") as file:
                assert sum(1 for _ in file.decode(file.streams.video[0])) == row["frames"] == 25 * SECONDS
