"""Rows of clips whose videos are gone at the end of a run."""

import json
from collections import Counter
from fractions import Fraction
from types import SimpleNamespace

from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.columns import extended
from pipeline.manifest.reader import read_manifest
from pipeline.media.slot import Slot
from pipeline.run.lost_videos import LostVideos
from pipeline.run.tables import _renderable


def test_the_row_of_a_lost_video_is_a_manifest_row_that_asks_for_the_same(tmp_path):
    path = tmp_path / "m.jsonl"
    asked = {"frame": "full", "face": "2", "timecode": "10:00:00:00", "audio_stream": "de-AT", "language": "de"}
    slot = {"frames": 48, "on_length": "pad"}
    path.write_text(json.dumps({"clip_id": "a", "image": "/a.png", "audio": "/a.mkv", "seed": 7} | asked | slot))
    manifest = read_manifest(str(path))
    used = {
        "status": "done",
        "uri": "/a.mp4",
        "bytes": 9,
        "audio_stream": "number 2 (ger), because of audio_stream=de-AT",
    }
    ledger = SimpleNamespace(videos=lambda: [], video_uri=lambda name: f"/out/{name}")
    run = SimpleNamespace(tally=SimpleNamespace(statuses=Counter(done=1)), ledger=ledger, manifest=manifest)
    row = LostVideos(run).checked(extended(clip_row(manifest.clips[0]), used))
    assert row["error_code"] == "video_lost"
    run.rows = [row]
    again = tmp_path / "failed.jsonl"
    again.write_text("".join(json.dumps(line) + "\n" for line in _renderable(run)))
    (clip,) = read_manifest(str(again)).clips
    assert {name: getattr(clip, name) for name in asked} == asked
    assert clip.seed == 7
    assert clip.slot == manifest.clips[0].slot == Slot(48, Fraction(25), "pad")
