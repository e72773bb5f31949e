"""A rendering job whose audio files have several streams: which one is used, and what is said about it."""

import json

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import media
from tests.pipeline.media.test_sound_reader import ENGLISH_GERMAN, HIGH, LOW, two_streams
from tests.running import run_job


@pytest.mark.slow
def test_a_row_chooses_an_audio_stream_and_the_table_says_which_one_was_used(tiny_model, tmp_path):
    (tmp_path / "two.mkv").write_bytes(two_streams(LOW, np.tile(HIGH, 2), streams=ENGLISH_GERMAN))
    (tmp_path / "face.png").write_bytes(media.PORTRAIT.read_bytes())
    rows = {"first": 1, "german": "de-AT", "third": "3", "any": None}
    lines = [
        {"clip_id": k, "image": "face.png", "audio": "two.mkv", "audio_stream": v, "language": "de"}
        for k, v in rows.items()
    ]
    manifest, out = tmp_path / "m.jsonl", tmp_path / "out"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = ("render", f"manifest={manifest}", f"model={tiny_model.path}", f"output={out}", "executor=serial")
    checked = run_job(*job, "--check")
    assert "third" in checked.stdout + checked.stderr
    assert "no audio stream number 3" in checked.stdout + checked.stderr
    assert run_job(*job, "render.mode=eager", "qc.enabled=false").returncode == 1
    table = {row["clip_id"]: row for row in pq.read_table(out / "clips.parquet").to_pylist()}
    assert {name: row["audio_stream_wanted"] for name, row in table.items()} == {
        **{"first": "1", "german": "de-AT", "third": "3", "any": None}
    }
    assert table["first"]["audio_stream"] == "number 1 (eng, default), because of audio_stream=1"
    assert table["german"]["audio_stream"] == "number 2 (ger), because of audio_stream=de-AT"
    assert table["any"]["audio_stream"] == "number 2 (ger), because of language=de"
    assert {row["input_notes"][0] for row in table.values() if row["status"] == "done"} == {"audio_streams"}
    with av.open(table["any"]["uri"]) as file:
        assert (file.streams.audio[0].language, file.metadata["title"]) == ("deu", "any")
    assert table["german"]["audio_duration"] > 1.5 * table["first"]["audio_duration"]
    third = table["third"]
    assert (third["status"], third["error_code"], third["audio_stream"]) == ("rejected", "audio_stream_not_there", None)
    assert [json.loads(line)["audio_stream"] for line in (out / "failed.jsonl").read_text().splitlines()] == ["3"]
