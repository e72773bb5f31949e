"""Pauses and clips without speech, as a job renders and judges them with the bundled model."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import media
from tests.running import run_job

SPAN = {"start": 1.0, "end": 2.0}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, bundled_mouth):
    folder = tmp_path_factory.mktemp("silence")
    row = {"image": str(media.PORTRAIT.parent / "portrait_2017.png"), "seed": 6, "nfe": 4}
    spoken = row | {"audio": str(media.PORTRAIT.parent / "speech_en_arctic_a0007_part.wav")}
    rows = [
        spoken | {"clip_id": "model"},
        spoken | {"clip_id": "closed", "silence": [SPAN]},
        row | {"clip_id": "idle", "seconds": 2.0, "emotion": "happy"},
    ]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = (f"manifest={folder / 'm.jsonl'}", f"output={folder / 'out'}", "executor=serial", "video.preset=ffv1")
    ended = run_job("render", *job, FLOATCAST_CACHE=str(bundled_mouth))
    assert len(list((bundled_mouth / "mouths").iterdir())) == 1  # no other was looked for
    table = pq.read_table(folder / "out" / "clips.parquet").to_pylist()
    return ended, {one["clip_id"]: one for one in table}


@pytest.mark.slow
def test_frames_outside_of_a_pause_are_those_of_the_clip_without_it(rendered):
    _, clips = rendered
    assert [clips[name]["error_message"] for name in ("model", "closed")] == [None, None]
    free, rested = (media.pictures(clips[name]["uri"]).astype(int) for name in ("model", "closed"))
    assert free.shape == rested.shape
    differs = np.flatnonzero(np.abs(free - rested).max(axis=(1, 2, 3)))
    assert set(differs) <= set(range(25, 50))
    assert len(differs) >= 20
    assert json.loads(clips["closed"]["silence"]) == [SPAN | {"silence": "closed"}]


@pytest.mark.slow
def test_a_listening_take_has_its_length_a_silent_track_and_nothing_that_only_speech_has(rendered):
    ended, clips = rendered
    idle = clips["idle"]
    assert ended.returncode in (0, 1), ended.stderr
    assert (idle["status"], idle["frames"], idle["audio"], idle["seconds"]) == ("done", 50, None, 2.0)
    assert idle["qc_frames_missing"] == 0
    assert [idle[f"qc_{name}"] for name in ("lip_correlation", "pause_motion", "silence_seconds")] == [None] * 3
    assert idle["qc_notes"] == []
    assert idle["qc_status"] != "fail"
    assert np.ptp(media.pictures(idle["uri"]).astype(int), axis=0).max() > 0  # it lives
