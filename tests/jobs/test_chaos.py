"""A job on a cluster that loses workers, a node, its driver and every tenth answer of its storage."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import s3fs
from ray.cluster_utils import Cluster

from pipeline.qc.settings import QcSettings
from pipeline.qc.stage import qc_version
from tests import media
from tests.clusters import HEAD

ROOT = Path(__file__).parents[2]
MARK = "FLOATCAST_CHAOS"
HANG_SECONDS = 600
SECONDS = 1.0
FIRST = ("clip-0", "clip-1", "clip-2")
CLIPS = (*FIRST, "uploaded", "gated-1", "clip-3", "judged", "clip-4", "gated-2", "clip-5")
"""In the order in which they are rendered. A gated one, and all after it, is not before its gate is opened."""
POISON = {
    "kills-its-worker": ("quarantined", "worker_died"),
    "no-such-file": ("rejected", "input_not_found"),
    "text-as-sound": ("rejected", "audio_unreadable"),
    "no-face": ("rejected", "face_not_found"),
}


def kill_worker(stage):
    """SIGKILL for the worker of a stage of this test's cluster."""
    victims = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if f"{stage}Worker".encode() in command and MARK.encode() in (folder / "environ").read_bytes():
                victims.append(int(folder.name))
        except OSError:  # it ended, or is another user's
            continue
    (victim,) = victims
    os.kill(victim, signal.SIGKILL)


def write_manifest(fs, root, folder):
    fs.put_file(str(media.PORTRAIT), f"{root}/in/portrait.png")
    fs.pipe_file(f"{root}/in/text.wav", media.TEXT)
    fs.pipe_file(f"{root}/in/no-face.png", media.picture(np.full((256, 256, 3), 128, np.uint8)))
    tone = media.wav(media.tone(seconds=SECONDS))
    fs.pipe_file(f"{root}/in/tone.wav", tone)
    good = {"image": "in/portrait.png", "audio": "in/tone.wav"}
    rows = []
    for number, clip_id in enumerate(CLIPS):
        gated = clip_id.startswith("gated")
        rows.append(good | {"clip_id": clip_id, "seed": number})
        if gated:
            (folder / f"{clip_id}.wav").write_bytes(tone)
            rows[-1]["audio"] = f"gate://{folder}/{clip_id}.wav"
    changes = ({"image": "poison://x"}, {"audio": "in/none.wav"}, {"audio": "in/text.wav"}, {"image": "in/no-face.png"})
    rows += [good | change | {"clip_id": clip_id} for clip_id, change in zip(POISON, changes, strict=True)]
    fs.pipe_file(f"{root}/m.jsonl", "\n".join(map(json.dumps, rows)).encode())


@pytest.mark.slow
def test_every_clip_ends_once_whatever_is_lost(tiny_model, tmp_path, s3, monkeypatch, request):
    root, reliable = f"{s3}/chaos", os.environ["AWS_ENDPOINT_URL"]
    fs = s3fs.S3FileSystem(endpoint_url=reliable, skip_instance_cache=True, use_listings_cache=False)
    write_manifest(fs, root, tmp_path)
    requests = request.getfixturevalue("faulty_s3")
    hold = Path(f"{requests}.hold")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests' / 'poison'}:{ROOT}")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv(MARK, "1")
    # As many CPUs as workers, so that one of them is on the node that will be lost.
    cluster = Cluster(initialize_head=True, head_node_args=HEAD | {"num_cpus": 2, "object_store_memory": 200_000_000})
    spot = {"num_cpus": 1, "object_store_memory": 200_000_000}
    # An address of its own, because a driver may join any node that has the address of its machine.
    node = cluster.add_node(**spot, node_ip_address="127.0.0.2", wait=False)
    cluster.wait_for_nodes(HANG_SECONDS)
    command = [sys.executable, "-m", "jobs.render", f"manifest={root}/m.jsonl", f"output={root}/out"]
    command += [f"model={tiny_model.path}", f"address={cluster.address}"]
    command += ["limits.allowed_schemes=[file,s3,poison,gate]", "render.unit_seconds=1"]
    command += ["features.workers=1", "render.workers=1", "qc.workers=1"]

    def start():
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def wait_until(condition):
        while not condition():
            assert job.poll() is None, job.communicate()
            time.sleep(0.5)

    def written(folder, clips):
        """Of each of these clips there is a file in a folder of the output."""
        if not fs.exists(f"{root}/out/{folder}"):
            return False
        names = [name.rsplit("/", 1)[1] for name in fs.ls(f"{root}/out/{folder}", detail=False)]
        return all(any(name.startswith(clip_id) for name in names) for clip_id in clips)

    def held():
        """Uploads that hang, or did."""
        return requests.read_text().count("PUT held ")

    job = None
    try:
        hold.write_text("/videos/uploaded.")
        job = start()
        wait_until(lambda: held() and written("qc", FIRST))
        uploads = held()
        kill_worker("Render")  # while it uploads
        wait_until(lambda: held() > uploads)  # its successor has the same clip
        job.kill()  # the driver, without a word
        job.communicate()
        before = {name: fs.cat_file(name) for name in fs.ls(f"{root}/out/done", detail=False)}
        (tmp_path / "gated-1.wav.open").touch()
        hold.write_text("/qc/judged.")
        uploads = held()
        job = start()
        wait_until(lambda: held() > uploads)
        kill_worker("Qc")  # while it judges
        hold.unlink()
        # The feature worker is at work with the last gated clip.
        wait_until(lambda: written("qc", CLIPS[:-2]) and (tmp_path / "gated-2.wav.asked").exists())
        cluster.remove_node(node, allow_graceful=False)
        cluster.wait_for_nodes(HANG_SECONDS)  # until the cluster knows
        cluster.add_node(**spot, node_ip_address="127.0.0.3", wait=False)
        (tmp_path / "gated-2.wav.open").touch()
        output, errors = job.communicate()
    finally:
        if job is not None:
            job.kill()
        cluster.shutdown()
    assert job.returncode == 1, output + errors

    fs.get_file(f"{root}/out/clips.parquet", str(tmp_path / "clips.parquet"))
    rows = {row["clip_id"]: row for row in pq.read_table(tmp_path / "clips.parquet").to_pylist()}
    assert pq.read_metadata(tmp_path / "clips.parquet").num_rows == len(rows) == len(CLIPS) + len(POISON)
    for clip_id, row in rows.items():
        assert (row["status"], row["error_code"]) == POISON.get(clip_id, ("done", None)), row
    # The second run starts from what is done ...
    assert {name.rsplit("/", 1)[1].split(".")[0] for name in before} == set(FIRST)
    planned = re.search(r"plan: \d+ new, 0 changed, (\d+) done before", output)
    assert planned is not None, output
    assert int(planned[1]) == len(FIRST)
    # ... of which nothing has changed,
    assert all(fs.cat_file(name) == content for name, content in before.items())
    # and each clip was committed once, with no video written after that.
    assert len(fs.ls(f"{root}/out/done")) == len(CLIPS)
    lines = [line.split(" ", 2) for line in requests.read_text().splitlines()]
    committed = set()
    for method, status, path in lines:
        found = re.search(r"/out/(done|videos)/([a-z0-9-]+)\.", path)
        if method in ("PUT", "POST") and status == "200" and found:
            assert found[2] not in committed, f"{path} was written after its clip was done"
            if found[1] == "done":
                committed.add(found[2])
    assert committed == {clip_id for clip_id, row in rows.items() if row["status"] == "done"} == set(CLIPS)
    # What readers see are whole videos, and each has been judged.
    for clip_id in CLIPS:
        row = rows[clip_id]
        assert (row["qc_version"], row["qc_frames_missing"]) == (qc_version(QcSettings()), 0)
        fs.get_file(row["uri"], str(tmp_path / "video.mp4"))
        with av.open(tmp_path / "video.mp4") as file:
            assert sum(1 for _ in file.decode(file.streams.video[0])) == row["frames"] == 25 * SECONDS
