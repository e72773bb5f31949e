"""Storage that answers 503, cuts connections and ends answers early: what is written is there, once and whole."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import s3fs

from pipeline.common.limits import Limits
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.storage import untrusted

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture
def fresh_connections(faulty_s3):
    # s3fs keeps clients by their settings, in which the endpoint of the environment is not
    s3fs.S3FileSystem.clear_instance_cache()
    yield faulty_s3
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_commits_are_exactly_once_through_faults(s3, fresh_connections, tmp_path):
    output = f"{s3}/faulty/{tmp_path.name}"
    clip = read_manifest(str(DEMO)).clips[0]
    clips = [replace(clip, clip_id=f"c{i}", fingerprint="0123456789ab") for i in range(40)]
    video = tmp_path / "v.mp4"
    video.write_bytes(bytes(range(256)) * 300)
    ledger = Ledger(output, "run")

    def render(clip):
        return ledger.commit(video, clip, {"status": "done", "clip_id": clip.clip_id})

    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(render, clips))
    assert sorted(ledger.done()) == sorted((clip.clip_id, clip.fingerprint) for clip in clips)
    for clip, row in zip(clips, rows, strict=True):
        assert ledger.read(clip.clip_id, clip.fingerprint) == row
        assert ledger.read(clip.clip_id, "ba9876543210") is None
        assert untrusted.read_input(row["uri"], Limits()) == video.read_bytes()
    lines = fresh_connections.read_text().splitlines()
    written = [line for line in lines if line.startswith("PUT 200") and "/done/" in line]
    assert len(written) == 40
    assert len(lines) > 200
